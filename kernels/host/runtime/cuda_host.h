// What a kernel source sees in place of CUDA when it is compiled as plain C++ for the host.
//
// One thread of a block is a fiber, so a kernel is ordinary code that can be stepped, sanitised and
// property-tested. Everything that lets lanes meet (barriers, shuffles, matrix products) is a
// rendezvous in the runtime, which names the source line when lanes do not meet as CUDA demands.
// Only names that our kernels use are here: a missing one is a compile error, never a silent
// difference.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <type_traits>
#include <utility>

namespace rallrec_host {

struct Dim {
    unsigned x, y, z;
};

// A place in a kernel source where lanes meet or memory is asked for.
struct Site {
    const char* file;
    int line;
    const char* what;
};

// The thread that runs now.
struct Thread {
    Dim thread, block, block_dim, grid_dim;
    unsigned linear;  // thread index, x fastest
    unsigned lane() const { return linear % 32; }
};

extern __thread Thread* self;

// Values that the lanes of a warp brought to a meeting. Lanes outside the mask hold nothing.
constexpr int kSlotBytes = 64;
struct Slots {
    alignas(16) unsigned char of[32][kSlotBytes];
    unsigned mask;

    template <class T> T get(unsigned lane) const {
        T value;
        std::memcpy(&value, of[lane], sizeof(T));
        return value;
    }
    template <class T> void set(unsigned lane, const T& value) { std::memcpy(of[lane], &value, sizeof(T)); }
};

using Finish = void (*)(Slots&, const Site*);

// Waits until every lane of `mask` is at `site`; `finish` then runs once on what they brought. The
// result stays valid until `leave`. `orders` says whether the meeting orders memory accesses
// (syncwarp does, a shuffle does not).
Slots* meet(const Site* site, unsigned mask, const void* value, size_t bytes, Finish finish, bool orders);
void leave(Slots* slots);

// __syncthreads with a predicate that is counted.
unsigned barrier(const Site* site, bool predicate);

// Shared memory of the block: the same for all its threads, filled with 0xFF before the first of
// them sees it.
void* shared_static(const Site* site, size_t bytes, size_t align);
void* shared_dynamic(const Site* site);
// As above, for what must stand at a multiple of `align`: a launch has to give a multiple of that
// too.
void* shared_aligned(const Site* site, size_t align);

// Asynchronous copies: they land when they are waited for and not earlier.
void copy_async(const Site* site, void* shared, const void* global, unsigned bytes, unsigned valid);
void copy_commit();
void copy_wait(const Site* site, unsigned groups_left);

// Ends the run with a message if [p, p + bytes) is not readable shared memory, or a copy into it is
// under way.
void check_shared_read(const Site* site, const void* p, size_t bytes);

// Of sm_90 (hopper.cpp, wgmma.cpp): barriers that count arrivals and bytes, tiles of a described
// matrix that land late, products of a warpgroup that are done when they are waited for.
uint32_t shared_address(const void* p);
void mbarrier_init(const Site* site, uint64_t* barrier, uint32_t arrivals);
void mbarrier_init_fence(const Site* site);
void mbarrier_arrive_expecting(const Site* site, uint64_t* barrier, uint32_t bytes);
void mbarrier_wait(const Site* site, uint64_t* barrier, uint32_t parity);
void tma_load(const Site* site, void* to, const void* map, uint64_t* barrier, uint32_t x, uint32_t y);
void set_registers(const Site* site, int count);
struct Accumulators;
void wgmma_fence(const Site* site);
void wgmma(const Site* site, Accumulators& acc, uint64_t a, uint64_t b, bool turned);
void wgmma_commit(const Site* site);
void wgmma_wait_groups(const Site* site, int left);

// [site] may be null: the line is then that of the call.
[[noreturn]] void fail(const Site* site, const char* format, ...) __attribute__((format(printf, 2, 3)));

// A thread's part of what `wgmma` adds to. While a product is under way `v` is NaN, and naming a
// value ends the run.
struct Accumulators {
    float v[64] = {};
    float held[64];
    int under_way = 0;
    float operator[](int i) const {
        if (under_way) fail(nullptr, "an accumulator is read while wgmma is under way; nobody has waited for it");
        return v[i];
    }
};

void mma_bf16(Slots&, const Site*);
void mma_f16(Slots&, const Site*);
void mma_tf32(Slots&, const Site*);
void ldmatrix(Slots&, const Site*);
void ldmatrix_trans(Slots&, const Site*);

template <class T> T shuffle(const Site* site, unsigned mask, T value, unsigned from) {
    static_assert(sizeof(T) <= 8, "a shuffle moves at most 64 bits");
    Slots* slots = meet(site, mask, &value, sizeof(T), nullptr, false);
    if (!(mask >> from & 1)) fail(site, "reads lane %u, which is not in the mask %08x", from, mask);
    T got = slots->get<T>(from);
    leave(slots);
    return got;
}

inline unsigned shuffle_lane(int from, int width) { return (self->lane() & ~(width - 1)) | (from & (width - 1)); }

inline unsigned shuffle_up(unsigned delta, int width) {
    unsigned lane = self->lane();
    return lane % width >= delta ? lane - delta : lane;
}

inline unsigned shuffle_down(unsigned delta, int width) {
    unsigned lane = self->lane();
    return lane % width + delta < unsigned(width) ? lane + delta : lane;
}

inline unsigned ballot(const Site* site, unsigned mask, bool predicate) {
    Slots* slots = meet(site, mask, &predicate, 1, nullptr, false);
    unsigned bits = 0;
    for (unsigned lane = 0; lane < 32; lane++)
        if (mask >> lane & 1) bits |= unsigned(slots->of[lane][0] != 0) << lane;
    leave(slots);
    return bits;
}

template <class T, class F> T reduce(const Site* site, unsigned mask, T value, F combine) {
    Slots* slots = meet(site, mask, &value, sizeof(T), nullptr, false);
    bool first = true;
    T all{};
    for (unsigned lane = 0; lane < 32; lane++) {
        if (!(mask >> lane & 1)) continue;
        all = first ? slots->get<T>(lane) : combine(all, slots->get<T>(lane));
        first = false;
    }
    leave(slots);
    return all;
}

// The table of kernels: a kernel registers itself with its argument sizes, so that a launch can
// check them. `set` is the library that it came with: 0 is this program, others were compiled and
// loaded later (`rallrec check --kernels`).
struct Kernel {
    const char* name;
    unsigned max_threads;
    unsigned count;
    const size_t* sizes;
    void (*call)(void** args);
    unsigned set;
    Kernel* next;
};
void enlist(Kernel* kernel);

template <auto F> struct Enlist;
template <class... A, void (*F)(A...)> struct Enlist<F> {
    static constexpr size_t sizes[sizeof...(A) + 1] = {sizeof(A)..., 0};
    template <size_t... I> static void unpack(void** args, std::index_sequence<I...>) {
        F(*static_cast<std::remove_reference_t<A>*>(args[I])...);
    }
    static void call(void** args) { unpack(args, std::index_sequence_for<A...>{}); }
    Kernel entry;
    Enlist(const char* name, unsigned max_threads) : entry{name, max_threads, sizeof...(A), sizes, call, 0, nullptr} {
        enlist(&entry);
    }
};

// The table of argument structs: each registers its layout, so that a test can compare it with
// Rust's.
struct Layout {
    const char* name;
    size_t size;
    unsigned count;
    const char* const* names;
    const size_t* places;  // offset and size of each field
    unsigned set;
    Layout* next;
};
void enlist_layout(Layout* layout);

// A number that the source and whoever launches it both state.
struct Constant {
    const char* name;
    size_t value;
    unsigned set;
    Constant* next;
};
void enlist_constant(Constant* constant);

struct EnlistConstant {
    Constant entry;
    EnlistConstant(const char* name, size_t value) : entry{name, value, 0, nullptr} { enlist_constant(&entry); }
};

struct EnlistLayout {
    Layout entry;
    explicit EnlistLayout(Layout layout) : entry(layout) { enlist_layout(&entry); }
};

}  // namespace rallrec_host

#define RALLREC_FIELD_NAME(TYPE, NAME) #NAME,
#define RALLREC_FIELD_PLACE(TYPE, NAME) offsetof(Here, NAME), sizeof(Here::NAME),
#define RALLREC_LAYOUT(NAME, TYPE, LIST)                                                                 \
    static const ::rallrec_host::EnlistLayout rallrec_layout_##NAME([] {                                  \
        typedef TYPE Here;                                                                                \
        static const char* const names[] = {LIST(RALLREC_FIELD_NAME)};                                    \
        static const size_t places[] = {LIST(RALLREC_FIELD_PLACE)};                                       \
        return ::rallrec_host::Layout{#NAME, sizeof(Here), sizeof(names) / sizeof(*names), names, places, 0, nullptr}; \
    }());

#define RALLREC_CONSTANT(NAME, ...) \
    static ::rallrec_host::EnlistConstant rallrec_constant_##NAME(#NAME, size_t(__VA_ARGS__))

#define RALLREC_SITE(WHAT)                                                           \
    ([]() -> const ::rallrec_host::Site* {                                           \
        static constexpr ::rallrec_host::Site site = {__FILE__, __LINE__, WHAT};     \
        return &site;                                                                \
    }())

#define RALLREC_KERNEL(NAME, MAX_THREADS) \
    static ::rallrec_host::Enlist<NAME> rallrec_enlist_##NAME(#NAME, MAX_THREADS)

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__

#define threadIdx (::rallrec_host::self->thread)
#define blockIdx (::rallrec_host::self->block)
#define blockDim (::rallrec_host::self->block_dim)
#define gridDim (::rallrec_host::self->grid_dim)

// Shared memory by name, as `SHARED(float, tile, [64][33]);`.
#define SHARED(TYPE, NAME, EXTENT)                                                                              \
    typedef TYPE NAME##_shared_type EXTENT;                                                                     \
    NAME##_shared_type& NAME = *static_cast<NAME##_shared_type*>(                                               \
        ::rallrec_host::shared_static(RALLREC_SITE(#NAME), sizeof(NAME##_shared_type), alignof(TYPE)))
#define DYNAMIC_SHARED(NAME) char* NAME = static_cast<char*>(::rallrec_host::shared_dynamic(RALLREC_SITE(#NAME)))

#define __syncthreads() ((void)::rallrec_host::barrier(RALLREC_SITE("__syncthreads"), false))
#define __syncthreads_count(P) ((int)::rallrec_host::barrier(RALLREC_SITE("__syncthreads_count"), (P)))
#define __syncthreads_or(P) ((int)(::rallrec_host::barrier(RALLREC_SITE("__syncthreads_or"), (P)) != 0))
#define __syncthreads_and(P) ((int)(::rallrec_host::barrier(RALLREC_SITE("__syncthreads_and"), !(P)) == 0))
#define __syncwarp_1(MASK) \
    ::rallrec_host::leave(::rallrec_host::meet(RALLREC_SITE("__syncwarp"), (MASK), "", 1, nullptr, true))
#define __syncwarp(...) __syncwarp_1(::rallrec_host::mask_or_all(__VA_ARGS__))
namespace rallrec_host {
inline unsigned mask_or_all(unsigned mask = 0xffffffffu) { return mask; }
}  // namespace rallrec_host

#define __shfl_sync(MASK, V, FROM) \
    ::rallrec_host::shuffle(RALLREC_SITE("__shfl_sync"), (MASK), (V), ::rallrec_host::shuffle_lane((FROM), 32))
#define __shfl_xor_sync(MASK, V, X) \
    ::rallrec_host::shuffle(RALLREC_SITE("__shfl_xor_sync"), (MASK), (V), (::rallrec_host::self->lane() ^ unsigned(X)) & 31u)
#define __shfl_up_sync(MASK, V, D) \
    ::rallrec_host::shuffle(RALLREC_SITE("__shfl_up_sync"), (MASK), (V), ::rallrec_host::shuffle_up((D), 32))
#define __shfl_down_sync(MASK, V, D) \
    ::rallrec_host::shuffle(RALLREC_SITE("__shfl_down_sync"), (MASK), (V), ::rallrec_host::shuffle_down((D), 32))
#define __ballot_sync(MASK, P) ::rallrec_host::ballot(RALLREC_SITE("__ballot_sync"), (MASK), (P))
#define __any_sync(MASK, P) ((int)(::rallrec_host::ballot(RALLREC_SITE("__any_sync"), (MASK), (P)) != 0))
#define __all_sync(MASK, P) ((int)(::rallrec_host::ballot(RALLREC_SITE("__all_sync"), (MASK), !(P)) == 0))
#define __reduce_add_sync(MASK, V) \
    ::rallrec_host::reduce(RALLREC_SITE("__reduce_add_sync"), (MASK), (V), [](auto a, auto b) { return a + b; })
#define __reduce_max_sync(MASK, V) \
    ::rallrec_host::reduce(RALLREC_SITE("__reduce_max_sync"), (MASK), (V), [](auto a, auto b) { return a > b ? a : b; })
#define __reduce_min_sync(MASK, V) \
    ::rallrec_host::reduce(RALLREC_SITE("__reduce_min_sync"), (MASK), (V), [](auto a, auto b) { return a < b ? a : b; })

struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(8) int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

// A product that no compiler may fuse with an addition.
inline double __dmul_rn(double a, double b) {
    volatile double product = a * b;
    return product;
}
inline unsigned __float_as_uint(float x) { unsigned u; std::memcpy(&u, &x, 4); return u; }
inline float __uint_as_float(unsigned u) { float x; std::memcpy(&x, &u, 4); return x; }
inline int __float_as_int(float x) { int u; std::memcpy(&u, &x, 4); return u; }
inline float __int_as_float(int u) { float x; std::memcpy(&x, &u, 4); return x; }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned(uint64_t(a) * b >> 32); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
inline int __ffs(int x) { return __builtin_ffs(x); }
template <class T> inline T __ldg(const T* p) { return *p; }
template <class T> inline T min(T a, T b) { return b < a ? b : a; }
template <class T> inline T max(T a, T b) { return a < b ? b : a; }
inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

// Relaxed, as in CUDA: an atomic orders nothing but itself.
template <class T, class U> inline T rallrec_atomic_add(T* p, U value) { return __atomic_fetch_add(p, T(value), __ATOMIC_RELAXED); }
inline int atomicAdd(int* p, int v) { return rallrec_atomic_add(p, v); }
inline unsigned atomicAdd(unsigned* p, unsigned v) { return rallrec_atomic_add(p, v); }
inline unsigned long long atomicAdd(unsigned long long* p, unsigned long long v) { return rallrec_atomic_add(p, v); }
template <class T> inline T rallrec_atomic_pick(T* p, T v, bool larger) {
    T old = __atomic_load_n(p, __ATOMIC_RELAXED);
    while ((larger ? v > old : v < old) && !__atomic_compare_exchange_n(p, &old, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
    return old;
}
inline int atomicMax(int* p, int v) { return rallrec_atomic_pick(p, v, true); }
inline unsigned atomicMax(unsigned* p, unsigned v) { return rallrec_atomic_pick(p, v, true); }
inline unsigned long long atomicMax(unsigned long long* p, unsigned long long v) { return rallrec_atomic_pick(p, v, true); }
inline int atomicMin(int* p, int v) { return rallrec_atomic_pick(p, v, false); }
inline unsigned atomicMin(unsigned* p, unsigned v) { return rallrec_atomic_pick(p, v, false); }
template <class T> inline T atomicExch(T* p, T v) { return __atomic_exchange_n(p, v, __ATOMIC_RELAXED); }
template <class T> inline T atomicCAS(T* p, T want, T v) {
    __atomic_compare_exchange_n(p, &want, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    return want;
}
inline unsigned atomicOr(unsigned* p, unsigned v) { return __atomic_fetch_or(p, v, __ATOMIC_RELAXED); }

#define __trap() ::rallrec_host::fail(RALLREC_SITE("__trap"), "trap")
