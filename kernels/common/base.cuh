// The ground under every kernel: one spelling of what CUDA and the host build say differently,
// 16-bit floats, vector loads. All inline PTX lives in kernels/common behind functions that have a
// host twin.
#pragma once

#if defined(RALLREC_HOST)
#include "../host/runtime/cuda_host.h"
#else
#include <cstddef>
#include <cstdint>
// A static shared array, `SHARED(float, tile, [64][33]);`, aligned for 16-byte accesses.
#define SHARED(TYPE, NAME, EXTENT) __shared__ __align__(16) TYPE NAME EXTENT
// The launch's dynamic shared memory as `char*`.
#define DYNAMIC_SHARED(NAME)                                     \
    extern __shared__ __align__(16) char rallrec_dynamic_shared[]; \
    char* NAME = rallrec_dynamic_shared
// Nothing to export: the host build is what tests compare with Rust.
#define RALLREC_LAYOUT(NAME, TYPE, LIST)
#define RALLREC_CONSTANT(NAME, ...) static_assert((__VA_ARGS__) > 0, "nothing")
// Makes a kernel known to the host build. MAX_THREADS must be what __launch_bounds__ says.
#define RALLREC_KERNEL(NAME, MAX_THREADS) static_assert(MAX_THREADS <= 1024, "too many threads")
#endif

// The arguments of a kernel that takes more than a handful, as one struct that Rust shares
// (`arguments!` beside the launch): `#define NAME_ARGS(F) F(float*, p) F(uint64_t, values)`, then
// `ARGUMENTS(NameArgs, NAME_ARGS);`, or `ARGUMENTS_OF` where pointers are to storage `T`; the
// kernel takes `const __grid_constant__ NameArgs a`, without which a compiler may copy it. Names
// and order are those of the Rust struct; a test compares both layouts field by field.
//
// A number that Rust states too, a tile's rows or the bytes of its shared memory:
// `RALLREC_CONSTANT(name, value);`. The room's `cases.rs` lists it, and a test compares both.
#define RALLREC_FIELD(TYPE, NAME) TYPE NAME;
#define ARGUMENTS(NAME, LIST)     \
    struct NAME {                 \
        LIST(RALLREC_FIELD)       \
    };                            \
    RALLREC_LAYOUT(NAME, NAME, LIST) static_assert(sizeof(NAME) <= 256, "more than a launch carries")
#define ARGUMENTS_OF(NAME, LIST)  \
    template <class T> struct NAME { \
        LIST(RALLREC_FIELD)       \
    };                            \
    RALLREC_LAYOUT(NAME, NAME<float>, LIST) static_assert(sizeof(NAME<float>) <= 256, "more than a launch carries")

constexpr unsigned kAllLanes = 0xffffffffu;

// bfloat16 by its bits: the upper half of an f32.
struct bf16 {
    uint16_t bits;
};

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bf16 x) { return __uint_as_float(uint32_t(x.bits) << 16); }

// Two values as the register that matrix instructions take, the first in the low half. Round to
// nearest, ties to even; every NaN becomes 0x7fff.
#if defined(RALLREC_HOST)
__device__ __forceinline__ uint16_t bf16_bits(float x) {
    const uint32_t u = __float_as_uint(x);
    if ((u & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
    return uint16_t((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}
__device__ __forceinline__ uint32_t bf16_pair(float low, float high) {
    return uint32_t(bf16_bits(low)) | uint32_t(bf16_bits(high)) << 16;
}
#else
__device__ __forceinline__ uint32_t bf16_pair(float low, float high) {
    uint32_t bits;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
    return bits;
}
// By the instruction for pairs: the one for a single value has a sixteenth of its rate.
__device__ __forceinline__ uint16_t bf16_bits(float x) { return uint16_t(bf16_pair(x, 0.0f)); }
#endif

template <class T> __device__ __forceinline__ T from_float(float x);
template <> __device__ __forceinline__ float from_float<float>(float x) { return x; }
template <> __device__ __forceinline__ bf16 from_float<bf16>(float x) { return bf16{bf16_bits(x)}; }

// Sixteen bytes of storage as floats, and back. `p` must be aligned to 16 bytes.
template <class T> struct Vec;

template <> struct Vec<float> {
    static constexpr int size = 4;
    uint4 raw;
    __device__ __forceinline__ void load(const float* p) { raw = *reinterpret_cast<const uint4*>(p); }
    __device__ __forceinline__ void zero() { raw = make_uint4(0, 0, 0, 0); }
    __device__ __forceinline__ float get(int i) const {
        const uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
        return __uint_as_float(words[i]);
    }
    static __device__ __forceinline__ void store(float* p, const float (&v)[4]) {
        *reinterpret_cast<float4*>(p) = make_float4(v[0], v[1], v[2], v[3]);
    }
};

template <> struct Vec<bf16> {
    static constexpr int size = 8;
    uint4 raw;
    __device__ __forceinline__ void load(const bf16* p) { raw = *reinterpret_cast<const uint4*>(p); }
    __device__ __forceinline__ void zero() { raw = make_uint4(0, 0, 0, 0); }
    __device__ __forceinline__ float get(int i) const {
        const uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
        return __uint_as_float(i % 2 ? words[i / 2] & 0xffff0000u : words[i / 2] << 16);
    }
    static __device__ __forceinline__ void store(bf16* p, const float (&v)[8]) {
        *reinterpret_cast<uint4*>(p) =
            make_uint4(bf16_pair(v[0], v[1]), bf16_pair(v[2], v[3]), bf16_pair(v[4], v[5]), bf16_pair(v[6], v[7]));
    }
};

// 2^x to about 2 units in the last place; subnormal results are zero on the device.
__device__ __forceinline__ float fast_exp2(float x) {
#if defined(RALLREC_HOST)
    return ::exp2f(x);
#else
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}

constexpr float kLog2e = 1.4426950408889634f;
constexpr float kLn2 = 0.6931471805599453f;
