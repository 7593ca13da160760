// What sm_90a alone has: barriers in shared memory that count bytes, tiles brought by the Tensor
// Memory Accelerator, products of a warpgroup. For sources named `*_sm90a.cu`. The host twins are
// in host/runtime/hopper.cpp and wgmma.cpp.
//
// A barrier (mbarrier) goes through phases. A phase is over when as many threads have arrived as
// `mbarrier_init` said and all bytes have landed that `mbarrier_expect` announced;
// `mbarrier_wait(b, p)` returns when the phase of parity p is over, so at once for p = 1 at first.
//
// Operands of wgmma lie in shared memory as TMA writes them with its 128-byte swizzle. Their unit
// is 8 lines of 128 bytes, aligned to 1024 bytes; the 16-byte chunk c of line l stands at c ^ l,
// which is: bits 4..6 of the address are XORed with its bits 7..9.
//
//     K-major    a line is a row of the operand, 64 values of K     the next 8 rows: `stride` bytes on; 16 of K: 32 bytes on
//     MN-major   a line is a value of K, 64 rows of the operand     the next 8 of K: `stride` on; the next 64 rows: `leading` on
#pragma once

#include "base.cuh"

// A descriptor of a matrix, by value among a kernel's parameters (`const __grid_constant__
// TensorMap x`), so that a launch needs no copy before it.
struct alignas(64) TensorMap {
    uint8_t bytes[128];
};

#if defined(RALLREC_HOST)
// 64 x 128 f32 of a warpgroup: 64 values a thread, zero at first.
using WgmmaAccumulators = ::rallrec_host::Accumulators;

// The launch's dynamic shared memory as `char*`, aligned to 1024 bytes.
#define SWIZZLED_SHARED(NAME) \
    char* NAME = static_cast<char*>(::rallrec_host::shared_aligned(RALLREC_SITE(#NAME), 1024))
#define mbarrier_init(BARRIER, ARRIVALS) ::rallrec_host::mbarrier_init(RALLREC_SITE("mbarrier_init"), (BARRIER), (ARRIVALS))
#define mbarrier_arrive(BARRIER) ::rallrec_host::mbarrier_arrive_expecting(RALLREC_SITE("mbarrier_arrive"), (BARRIER), 0)
// Arrives, and announces bytes.
#define mbarrier_expect(BARRIER, BYTES) ::rallrec_host::mbarrier_arrive_expecting(RALLREC_SITE("mbarrier_expect"), (BARRIER), (BYTES))
#define mbarrier_wait(BARRIER, PARITY) ::rallrec_host::mbarrier_wait(RALLREC_SITE("mbarrier_wait"), (BARRIER), (PARITY))
// What `mbarrier_init` wrote is seen by TMA.
#define mbarrier_init_fence() ::rallrec_host::mbarrier_init_fence(RALLREC_SITE("mbarrier_init_fence"))
// The box whose first value is column X, row Y of the matrix behind MAP; zeros outside. BARRIER
// counts the bytes of the whole box.
#define tma_load(TO, MAP, BARRIER, X, Y) \
    ::rallrec_host::tma_load(RALLREC_SITE("tma_load"), (TO), (MAP), (BARRIER), (X), (Y))
// Registers of a thread, a multiple of 8; every thread of a warpgroup calls it.
#define setmaxnreg_inc(COUNT) ::rallrec_host::set_registers(RALLREC_SITE("setmaxnreg_inc"), (COUNT))
#define setmaxnreg_dec(COUNT) ::rallrec_host::set_registers(RALLREC_SITE("setmaxnreg_dec"), (COUNT))
// Before the first product into accumulators that other instructions touched.
#define wgmma_fence() ::rallrec_host::wgmma_fence(RALLREC_SITE("wgmma_fence"))
// ACC += 64 x 16 times 16 x 128, both by descriptor; TURNED says that the second is MN-major. Not
// done before it is waited for.
#define wgmma_64x128x16(ACC, A, B, TURNED) \
    ::rallrec_host::wgmma(RALLREC_SITE("wgmma_64x128x16"), (ACC), (A), (B), (TURNED))
// Closes a group of products.
#define wgmma_commit() ::rallrec_host::wgmma_commit(RALLREC_SITE("wgmma_commit"))
// Waits until at most LEFT groups of this warp are under way.
#define wgmma_wait(LEFT) ::rallrec_host::wgmma_wait_groups(RALLREC_SITE("wgmma_wait"), (LEFT))
// Waits for all of them; ACC can be read then.
#define wgmma_finish(ACC) ((void)(ACC), ::rallrec_host::wgmma_wait_groups(RALLREC_SITE("wgmma_finish"), 0))

inline uint32_t shared_address(const void* p) { return ::rallrec_host::shared_address(p); }
#else
struct WgmmaAccumulators {
    float v[64] = {};
    __device__ __forceinline__ float operator[](int i) const { return v[i]; }
};

#define SWIZZLED_SHARED(NAME)                                          \
    extern __shared__ __align__(1024) char rallrec_swizzled_shared[];  \
    char* NAME = rallrec_swizzled_shared

__device__ __forceinline__ uint32_t shared_address(const void* p) { return uint32_t(__cvta_generic_to_shared(p)); }

__device__ __forceinline__ void mbarrier_init(uint64_t* barrier, uint32_t arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}
__device__ __forceinline__ void mbarrier_arrive(uint64_t* barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}
__device__ __forceinline__ void mbarrier_expect(uint64_t* barrier, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes) : "memory");
}
__device__ __forceinline__ void mbarrier_wait(uint64_t* barrier, uint32_t parity) {
    asm volatile(
        "{\n.reg .pred done;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@done bra over;\nbra again;\nover:\n}"
        ::"r"(shared_address(barrier)), "r"(parity)
        : "memory");
}
__device__ __forceinline__ void mbarrier_init_fence() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

__device__ __forceinline__ void tma_load(void* to, const void* map, uint64_t* barrier, uint32_t x, uint32_t y) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];"
        ::"r"(shared_address(to)), "l"(map), "r"(shared_address(barrier)), "r"(x), "r"(y)
        : "memory");
}

#define setmaxnreg_inc(COUNT) asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT))
#define setmaxnreg_dec(COUNT) asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT))

// All 64 registers of the accumulators, as operands of an instruction that reads and writes them.
#define WGMMA_EIGHT(D, I)                                                                                                   \
    "+f"((D).v[I]), "+f"((D).v[(I) + 1]), "+f"((D).v[(I) + 2]), "+f"((D).v[(I) + 3]), "+f"((D).v[(I) + 4]),                \
        "+f"((D).v[(I) + 5]), "+f"((D).v[(I) + 6]), "+f"((D).v[(I) + 7])
#define WGMMA_REGISTERS(D)                                                                                                  \
    WGMMA_EIGHT(D, 0), WGMMA_EIGHT(D, 8), WGMMA_EIGHT(D, 16), WGMMA_EIGHT(D, 24), WGMMA_EIGHT(D, 32), WGMMA_EIGHT(D, 40),   \
        WGMMA_EIGHT(D, 48), WGMMA_EIGHT(D, 56)

__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
#define wgmma_wait(LEFT) asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(LEFT) : "memory")
// The second statement is no instruction: it keeps the compiler from reading the registers before
// the wait.
__device__ __forceinline__ void wgmma_finish(WgmmaAccumulators& d) {
    wgmma_wait(0);
    asm volatile("" : WGMMA_REGISTERS(d)::"memory");
}

template <bool kTurned> __device__ __forceinline__ void wgmma_issue(WgmmaAccumulators& d, uint64_t a, uint64_t b) {
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
        "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
        "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,"
        "%61,%62,%63}, %64, %65, 1, 1, 1, 0, %66;"
        : WGMMA_REGISTERS(d)
        : "l"(a), "l"(b), "n"(int(kTurned)));
}
#define wgmma_64x128x16(ACC, A, B, TURNED) wgmma_issue<(TURNED)>((ACC), (A), (B))
#endif

// An operand at `p`, swizzled 128 bytes wide; see the top. In units of 16 bytes: address in bits
// 0..13, `leading` in 16..29, `stride` in 32..45; bits 62..63 are 1 for this swizzle.
__device__ __forceinline__ uint64_t wgmma_operand(const void* p, uint32_t leading, uint32_t stride) {
    return uint64_t((shared_address(p) & 0x3ffffu) >> 4) | uint64_t(leading >> 4) << 16 | uint64_t(stride >> 4) << 32 |
           uint64_t(1) << 62;
}
