// Philox4x32-10 (Salmon et al., SC 2011), word for word the numbers of src/rng.rs.
#pragma once

#include "base.cuh"

__device__ __forceinline__ uint4 philox(uint2 key, uint4 c) {
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const uint32_t high0 = __umulhi(0xD2511F53u, c.x), low0 = 0xD2511F53u * c.x;
        const uint32_t high1 = __umulhi(0xCD9E8D57u, c.z), low1 = 0xCD9E8D57u * c.z;
        c = make_uint4(high1 ^ c.y ^ key.x, low1, high0 ^ c.w ^ key.y, low0);
        key.x += 0x9E3779B9u;
        key.y += 0xBB67AE85u;
    }
    return c;
}

// A stream of draws: fixed (key, a, b), counting up.
struct Stream {
    uint2 key;
    uint32_t a, b;
    uint64_t next;
    uint4 words;
    int left;

    __device__ __forceinline__ Stream(uint2 key, uint32_t a, uint32_t b) : key(key), a(a), b(b), next(0), left(0) {
        words = make_uint4(0, 0, 0, 0);
    }
    __device__ __forceinline__ uint32_t bits() {
        if (left == 0) {
            words = philox(key, make_uint4(uint32_t(next), uint32_t(next >> 32), a, b));
            next++;
            left = 4;
        }
        const uint32_t word = words.x;
        words = make_uint4(words.y, words.z, words.w, 0);
        left--;
        return word;
    }
    // Uniform in 0..n, unbiased (Lemire's multiply and reject); n > 0.
    __device__ __forceinline__ uint32_t below(uint32_t n) {
        uint32_t word = bits();
        uint32_t low = word * n;
        if (low < n) {
            const uint32_t threshold = (0u - n) % n;
            while (low < threshold) {
                word = bits();
                low = word * n;
            }
        }
        return __umulhi(word, n);
    }
    // Uniform in [0, 1), 24 bits.
    __device__ __forceinline__ float uniform() { return float(bits() >> 8) * (1.0f / 16777216.0f); }
};
