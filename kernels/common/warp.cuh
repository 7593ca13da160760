// Sums and maxima over a warp, the same in every lane. The order of additions is fixed.
#pragma once

#include "base.cuh"

__device__ __forceinline__ float warp_sum(float x) {
    for (int apart = 16; apart; apart /= 2) x += __shfl_xor_sync(kAllLanes, x, apart);
    return x;
}

__device__ __forceinline__ double warp_sum(double x) {
    for (int apart = 16; apart; apart /= 2) x += __shfl_xor_sync(kAllLanes, x, apart);
    return x;
}

__device__ __forceinline__ float warp_max(float x) {
    for (int apart = 16; apart; apart /= 2) x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, apart));
    return x;
}
