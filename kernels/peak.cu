// What mma.sync gives at best: the ceiling that `rallrec bench --device cuda` holds matrix kernels against. Operands and accumulators
// stay in registers, eight independent chains a warp, so that nothing but the instruction is waited for. On sm_90 wgmma gives more.
//
//   FLOP: blocks x 8 warps x steps x 8 x 4096. Bytes: none.

#include "common/base.cuh"
#include "common/mma.cuh"

namespace {
constexpr int kThreads = 256, kChains = 8;
}

// `out`, of one value a block, gets a sum that depends on every chain, so that none can be left out: 8 x 16 x steps.
extern "C" __global__ void __launch_bounds__(kThreads) mma_peak(uint32_t steps, float* out) {
    SHARED(float, sums, [kThreads]);
    // Ones: each of the sixteen products of an element adds 1.
    const uint32_t one = bf16_pair(1.0f, 1.0f);
    const uint32_t a[4] = {one, one, one, one}, b[2] = {one, one};
    float acc[kChains][4] = {};
    for (uint32_t step = 0; step < steps; step++) {
#pragma unroll
        for (int c = 0; c < kChains; c++) mma_bf16(acc[c], a, b);
    }
    float sum = 0;
#pragma unroll
    for (int c = 0; c < kChains; c++) sum += acc[c][0];
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        float least = sums[0];
        for (int i = 1; i < kThreads; i++) least = sums[i] < least ? sums[i] : least;
        out[blockIdx.x] = least;
    }
}
RALLREC_KERNEL(mma_peak, kThreads);
