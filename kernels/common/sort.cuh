// Bitonic networks over 64-bit keys in shared memory. Keys are unique or equal through and through,
// so the result does not depend on who does which exchange.
#pragma once

#include "base.cuh"

// Exchanges the pair number `pair` of a step (k, j): ascending where bit k of the index is 0, else
// descending.
template <bool kDescending>
__device__ __forceinline__ void sort_exchange(uint64_t* keys, uint32_t pair, uint32_t k, uint32_t j) {
    const uint32_t low = 2 * pair - (pair & (j - 1)), high = low + j;
    const uint64_t a = keys[low], b = keys[high];
    const bool up = ((low & k) == 0) != kDescending;
    if ((a > b) == up) {
        keys[low] = b;
        keys[high] = a;
    }
}

// Sorts `count` (a power of two) keys; all `threads` threads of the block call it, with a barrier
// before and after.
template <bool kDescending>
__device__ __forceinline__ void sort_block(uint64_t* keys, uint32_t count, uint32_t thread, uint32_t threads) {
    for (uint32_t k = 2; k <= count; k *= 2)
        for (uint32_t j = k / 2; j; j /= 2) {
            for (uint32_t pair = thread; pair < count / 2; pair += threads) sort_exchange<kDescending>(keys, pair, k, j);
            __syncthreads();
        }
}

// As `sort_block` by one whole warp.
template <bool kDescending>
__device__ __forceinline__ void sort_warp(uint64_t* keys, uint32_t count, uint32_t lane) {
    for (uint32_t k = 2; k <= count; k *= 2)
        for (uint32_t j = k / 2; j; j /= 2) {
            for (uint32_t pair = lane; pair < count / 2; pair += 32) sort_exchange<kDescending>(keys, pair, k, j);
            __syncwarp();
        }
}

// A float as an integer of the same order; zeros of both signs are one.
__device__ __forceinline__ uint32_t ordered(float x) {
    const uint32_t u = __float_as_uint(x + 0.0f);
    return u >> 31 ? ~u : u | 0x80000000u;
}
__device__ __forceinline__ float unordered(uint32_t u) { return __uint_as_float(u >> 31 ? u & 0x7fffffffu : ~u); }

// Sorts so: larger scores first, ties by the lower index.
__device__ __forceinline__ uint64_t score_key(float score, uint32_t index) {
    return uint64_t(ordered(score)) << 32 | uint64_t(~index);
}
