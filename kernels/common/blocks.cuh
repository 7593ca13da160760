// Weights in the blocks of GGUF files: 32 small integers to a scale.
//
//   Q8_0: w = d q        Q4_0: w = d (q - 8)        Q4_1: w = d q + m        d and m are IEEE half
//
// Integers, scales and minima stand in arrays of their own. Four lanes share a block; lane t has
//
//   Q8_0   8 t .. 8 t + 7                            8 bytes
//   Q4     4 t .. 4 t + 3, 16 + 4 t .. 16 + 4 t + 3  4 bytes: low and high nibbles
//
// A byte becomes a float by setting the mantissa of 2^23 and one subtraction; its upper half is the
// bf16, exactly.
#pragma once

#include "base.cuh"

__device__ __forceinline__ float half_to_float(uint16_t h) {
    const uint32_t magnitude = h & 0x7fffu, sign = uint32_t(h & 0x8000u) << 16;
    if (magnitude >= 0x7c00u) return __uint_as_float(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
    return __uint_as_float(sign | __float_as_uint(__uint_as_float(magnitude << 13) * 5.192296858534828e33f));  // 2^112
}

// The bf16 pair of two floats that need no rounding.
__device__ __forceinline__ uint32_t exact_pair(float low, float high) {
    return __float_as_uint(low) >> 16 | (__float_as_uint(high) & 0xffff0000u);
}
__device__ __forceinline__ float small(uint32_t value, float bias) { return __uint_as_float(0x4b000000u | value) - bias; }

struct Weights {
    const void* values;
    const uint16_t* scale;
    const uint16_t* minimum;
    uint32_t rows, depth, stride;
};

struct Q8 {
    static constexpr bool kScaled = true, kMinimum = false, kNibbles = false;
    using Raw = uint2;
    static __device__ __forceinline__ Raw load(const Weights& w, uint64_t row, uint32_t block, int t) {
        if (row >= w.rows) return make_uint2(0, 0);
        return *reinterpret_cast<const uint2*>(static_cast<const uint8_t*>(w.values) + row * w.depth + block * 32 + 8 * t);
    }
    static __device__ __forceinline__ void dequantise(Raw raw, uint32_t (&pairs)[4]) {
        const uint32_t words[2] = {raw.x ^ 0x80808080u, raw.y ^ 0x80808080u};
        constexpr float kBias = 8388608.0f + 128.0f;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const uint32_t two = words[i / 2] >> 16 * (i % 2);
            pairs[i] = exact_pair(small(two & 255u, kBias), small(two >> 8 & 255u, kBias));
        }
    }
};

template <bool kWithMinimum> struct Q4 {
    static constexpr bool kScaled = true, kMinimum = kWithMinimum, kNibbles = true;
    using Raw = uint32_t;
    static __device__ __forceinline__ Raw load(const Weights& w, uint64_t row, uint32_t block, int t) {
        if (row >= w.rows) return 0;
        return *reinterpret_cast<const uint32_t*>(static_cast<const uint8_t*>(w.values) + row * (w.depth / 2) + block * 16 +
                                                  4 * t);
    }
    static __device__ __forceinline__ void dequantise(Raw raw, uint32_t (&pairs)[4]) {
        constexpr float kBias = 8388608.0f + (kWithMinimum ? 0.0f : 8.0f);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const uint32_t two = raw >> (16 * (i % 2) + 4 * (i / 2));
            pairs[i] = exact_pair(small(two & 15u, kBias), small(two >> 8 & 15u, kBias));
        }
    }
};
