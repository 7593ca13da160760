// Kernels with one bug each, and what each should have been. Lines marked BUG are what a report must name.
#include "../../common/async.cuh"
#include "../../common/mma.cuh"
#include "../../common/warp.cuh"

// Sum of a block's values; without the barrier the second half may read what is not yet written.
template <bool kBarrier> __device__ void sum_block(float* out, const float* in) {
    SHARED(float, parts, [4]);
    const float mine = warp_sum(in[threadIdx.x]);
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = mine;
    if (kBarrier) __syncthreads();
    if (threadIdx.x < 4) out[threadIdx.x] = parts[3 - threadIdx.x];  // BUG missing barrier
}
extern "C" __global__ void planted_sum_good(float* out, const float* in) { sum_block<true>(out, in); }
RALLREC_KERNEL(planted_sum_good, 128);
extern "C" __global__ void planted_sum_bad(float* out, const float* in) { sum_block<false>(out, in); }
RALLREC_KERNEL(planted_sum_bad, 128);

extern "C" __global__ void planted_divergent(float* out) {
    if (threadIdx.x < 64) {
        __syncthreads();  // BUG divergent barrier
    } else {
        __syncthreads();  // BUG divergent barrier
    }
    out[threadIdx.x] = 1;
}
RALLREC_KERNEL(planted_divergent, 128);

extern "C" __global__ void planted_unreached(float* out) {
    if (threadIdx.x == 77) return;
    __syncthreads();  // BUG not reached
    out[threadIdx.x] = 1;
}
RALLREC_KERNEL(planted_unreached, 128);

extern "C" __global__ void planted_half_warp(float* out) {
    float x = 1;
    if (threadIdx.x % 32 < 16) x += __shfl_xor_sync(kAllLanes, x, 1);  // BUG half warp
    out[threadIdx.x] = x;
}
RALLREC_KERNEL(planted_half_warp, 128);

extern "C" __global__ void planted_strange_lane(float* out) {
    float x = 1;
    if (threadIdx.x % 32 < 16) x += __shfl_sync(0xffffu, x, 20);  // BUG lane outside the mask
    out[threadIdx.x] = x;
}
RALLREC_KERNEL(planted_strange_lane, 128);

extern "C" __global__ void planted_shared_bounds(float* out) {
    SHARED(float, tile, [128]);
    tile[threadIdx.x + 1] = 1;  // BUG shared out of bounds
    __syncthreads();
    out[threadIdx.x] = tile[threadIdx.x];
}
RALLREC_KERNEL(planted_shared_bounds, 128);

extern "C" __global__ void planted_dynamic_bounds(float* out) {
    DYNAMIC_SHARED(bytes);
    out[threadIdx.x] = reinterpret_cast<float*>(bytes)[threadIdx.x * 2];  // BUG dynamic out of bounds
}
RALLREC_KERNEL(planted_dynamic_bounds, 128);

// Doubles n values in tiles of 128; the bad one forgets that the last tile is not full.
template <int kExtra> __device__ void double_values(float* x, uint32_t n) {
    const uint32_t i = blockIdx.x * 128 + threadIdx.x;
    if (i < n + kExtra) x[i] *= 2;  // BUG last tile
}
extern "C" __global__ void planted_tile_good(float* x, uint32_t n) { double_values<0>(x, n); }
RALLREC_KERNEL(planted_tile_good, 128);
extern "C" __global__ void planted_tile_bad(float* x, uint32_t n) { double_values<1>(x, n); }
RALLREC_KERNEL(planted_tile_bad, 128);

// A tile through cp.async; the bad ones do not wait for it.
template <bool kWait> __device__ void stage(float* out, const float* in) {
    SHARED(float, tile, [128]);
    const int at = threadIdx.x * 4;
    if (threadIdx.x < 32) {
        cp_async16(tile + at, in + at, 16);
        cp_async_commit();
        if (kWait) cp_async_wait(0);
    }
    __syncthreads();
    out[threadIdx.x] = tile[127 - threadIdx.x];  // BUG read before it landed
    if (!kWait) cp_async_wait(0);
}
extern "C" __global__ void planted_async_good(float* out, const float* in) { stage<true>(out, in); }
RALLREC_KERNEL(planted_async_good, 128);
extern "C" __global__ void planted_async_bad(float* out, const float* in) { stage<false>(out, in); }
RALLREC_KERNEL(planted_async_bad, 128);

extern "C" __global__ void planted_async_matrix(float* out, const float* in) {
    SHARED(float, tile, [128]);
    cp_async16(tile + threadIdx.x * 4, in + threadIdx.x * 4, 16);
    cp_async_commit();
    uint32_t a[4];
    ldmatrix_x4(a, tile + threadIdx.x * 4);  // BUG matrix read before it landed
    cp_async_wait(0);
    out[threadIdx.x] = __uint_as_float(a[0]);
}
RALLREC_KERNEL(planted_async_matrix, 32);

extern "C" __global__ void planted_async_left(float* out, const float* in) {
    SHARED(float, tile, [128]);
    cp_async16(tile + threadIdx.x * 4, in + threadIdx.x * 4, 16);  // BUG nobody waits
    cp_async_commit();
    out[threadIdx.x] = 0;
}
RALLREC_KERNEL(planted_async_left, 32);

// Shared memory is not zero, and not what the last block left.
extern "C" __global__ void planted_uninitialised(float* out) {
    SHARED(float, tile, [32]);
    out[blockIdx.x * 32 + threadIdx.x] = tile[threadIdx.x];
    tile[threadIdx.x] = 1;
}
RALLREC_KERNEL(planted_uninitialised, 32);

// Its stack never ends.
__device__ float deep(volatile float* out, int n) {
    volatile float room[4096];
    room[n % 4096] = float(n);
    return n == 0 ? room[0] : deep(out, n - 1) + room[n % 4096];
}
extern "C" __global__ void planted_stack(float* out) { out[threadIdx.x] = deep(out, 1000); }
RALLREC_KERNEL(planted_stack, 32);
