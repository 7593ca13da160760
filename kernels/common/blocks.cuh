// Weights in the blocks of GGUF files: 32 small integers to a scale.
//
//   Q8_0: w = d q        Q4_0: w = d (q - 8)        Q4_1: w = d q + m        d and m are IEEE half
//
// Integers, scales and minima stand in arrays of their own. Four lanes share a block: lane t has
// its values 8 t .. 8 t + 7. A lane loads 16 bytes at once, its shares of the blocks of a group:
//
//   Q8_0   2 blocks, 8 bytes of each         a row: groups of 64 bytes, filled up with zeros;
//   Q4     4 blocks, 4 bytes of each         a group: lane 0's 16 bytes, lane 1's, lane 2's, lane 3's
//
// A register of integers has the first of each pair in its lower half and the second in its upper,
// at the same place, so that one instruction cuts a pair out and makes it two bf16:
//
//   Q4     bits 4 i .. 4 i + 3 of a half: value 2 i (upper: 2 i + 1). 0x4300 | q is 128 + q, and an
//          addition for both takes 128 or 136 away.
//   Q8_0   bits 8 i .. 8 i + 7 of a half of word j: value 4 j + 2 i (upper: + 1). 0x4300 | the lower
//          seven bits is 128 + them, 0x4300 | the highest is 128 or 256: their difference is q.
//
// Integers of eight bits are exact in bf16, and so are these sums.
#pragma once

#include "base.cuh"

__device__ __forceinline__ float half_to_float(uint16_t h) {
#if defined(RALLREC_HOST)
    const uint32_t magnitude = h & 0x7fffu, sign = uint32_t(h & 0x8000u) << 16;
    if (magnitude >= 0x7c00u) return __uint_as_float(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
    return __uint_as_float(sign | __float_as_uint(__uint_as_float(magnitude << 13) * 5.192296858534828e33f));  // 2^112
#else
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
    return f;
#endif
}

// a b + c of each half, rounded once.
__device__ __forceinline__ uint32_t bf16_pair_fma(uint32_t a, uint32_t b, uint32_t c) {
#if defined(RALLREC_HOST)
    auto low = [](uint32_t x) { return __uint_as_float(x << 16); };
    auto high = [](uint32_t x) { return __uint_as_float(x & 0xffff0000u); };
    return bf16_pair(fmaf(low(a), low(b), low(c)), fmaf(high(a), high(b), high(c)));
#else
    uint32_t d;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
#endif
}

struct Weights {
    const void* values;
    const uint16_t* scale;
    const uint16_t* minimum;
    uint32_t rows, depth, stride;
};

// Groups of `kGroup` blocks: a row's, a lane's 16 bytes of one, and the scales of one. What is
// asked of a group is its first block's; `next` takes that away.
template <int kGroup> struct Grouped {
    static constexpr bool kScaled = true;
    static constexpr int kBlocks = kGroup, kAhead = 2;
    static __device__ __forceinline__ uint32_t groups(const Weights& w) { return (w.depth / 32 + kGroup - 1) / kGroup; }
    static __device__ __forceinline__ uint4 load(const Weights& w, uint64_t row, uint32_t group, int t) {
        if (row >= w.rows) return make_uint4(0, 0, 0, 0);
        return static_cast<const uint4*>(w.values)[(row * groups(w) + group) * 4 + t];
    }
    // A group's scales or minima, two in a register: half of what they take as floats.
    using Factors = uint32_t[kGroup / 2];
    static __device__ __forceinline__ void factors(Factors& to, const uint16_t* of, const Weights& w, uint64_t row, uint32_t group) {
#pragma unroll
        for (int i = 0; i < kGroup / 2; i++) to[i] = 0;
        if (row >= w.rows) return;
        const uint32_t* from = reinterpret_cast<const uint32_t*>(of) + (row * groups(w) + group) * (kGroup / 2);
        if constexpr (kGroup == 4) {
            const uint2 both = *reinterpret_cast<const uint2*>(from);
            to[0] = both.x, to[1] = both.y;
        } else {
            to[0] = *from;
        }
    }
    static __device__ __forceinline__ float factor(const Factors& of) { return half_to_float(uint16_t(of[0])); }
    // The next block's takes the first one's place.
    static __device__ __forceinline__ void next(Factors& of) {
        of[0] = of[0] >> 16;
        if constexpr (kGroup == 4) of[0] |= of[1] << 16, of[1] >>= 16;
    }
    static __device__ __forceinline__ void next(uint4& raw) {
        raw = kGroup == 4 ? make_uint4(raw.y, raw.z, raw.w, 0) : make_uint4(raw.z, raw.w, 0, 0);
    }
};

struct Q8 : Grouped<2> {
    static constexpr bool kMinimum = false;
    static __device__ __forceinline__ void dequantise(const uint4& raw, uint32_t (&pairs)[4]) {
        const uint32_t words[2] = {raw.x, raw.y};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const uint32_t two = words[i / 2] >> 8 * (i % 2);
            const uint32_t lower = (two & 0x007f007fu) | 0x43004300u, highest = (two & 0x00800080u) | 0x43004300u;
            pairs[i] = bf16_pair_fma(highest, 0xbf80bf80u, lower);  // -1
        }
    }
};

template <bool kWithMinimum> struct Q4 : Grouped<4> {
    static constexpr bool kMinimum = kWithMinimum;
    static __device__ __forceinline__ void dequantise(const uint4& raw, uint32_t (&pairs)[4]) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const uint32_t shifted = (raw.x >> 4 * i & 0x000f000fu) | 0x43004300u;
            pairs[i] = bf16_pair_fma(shifted, 0x3f803f80u, kWithMinimum ? 0xc300c300u : 0xc308c308u);  // -128, -136
        }
    }
};
