// What a GPU gives at best, for `rallrec bench --device cuda` to hold the other kernels against.
//
// mma_peak: mma.sync in bf16. Operands and accumulators stay in registers, eight independent chains
// a warp, so that nothing but the instruction is waited for. On sm_90 wgmma gives more.
//
//   FLOP: blocks x 8 warps x steps x 8 x 4096. Bytes: none.
//
// gather_peak: rows fetched by a list of row numbers, and nothing done with them: what propagation
// over a graph (spmm.cu) cannot beat on the same list, however much of the rows lies in the
// second-level cache. A warp takes 256 numbers in a row; a row of V vectors of 16 bytes has L =
// min(V, 32) lanes, so 32 / L rows come at a time, eight such fetches in flight (spmm.cu has four:
// this is the ceiling).
//
//   Bytes: count (4 + 16 V). FLOP: none.

#include "common/base.cuh"
#include "common/mma.cuh"

namespace {
constexpr int kThreads = 256, kChains = 8;
constexpr int kGatherThreads = 128, kShare = 256, kFetches = 8;
}

// A pair of random bf16 of either sign and of a size from 1 to 2, each a multiple of 2^-7: a sum of
// sixteen of their products is exact in f32. `src/ops/peak` has the same numbers.
__device__ uint32_t peak_pair(uint32_t lane, uint32_t word) {
    uint32_t h = lane * 0x9e3779b9u + word * 0x85ebca6bu + 0x27d4eb2fu;
    h = (h ^ (h >> 15)) * 0x2c1b3c6du;
    h = (h ^ (h >> 12)) * 0x297a2d39u;
    return ((h ^ (h >> 15)) & 0x807f807fu) | 0x3f803f80u;
}

// Random bits, because a chip multiplies ones faster than it does data. Every other step takes its
// products away again, so that after an odd number of steps one product of every chain is left.
// `out`, of one value a block, gets the least of the sums over a thread's chains, so that none can
// be left out.
extern "C" __global__ void __launch_bounds__(kThreads) mma_peak(uint32_t steps, float* out) {
    SHARED(float, sums, [kThreads]);
    const uint32_t lane = threadIdx.x % 32;
    uint32_t a[4], b[kChains][2];
#pragma unroll
    for (int i = 0; i < 4; i++) a[i] = peak_pair(lane, i);
#pragma unroll
    for (int c = 0; c < kChains; c++)
#pragma unroll
        for (int i = 0; i < 2; i++) b[c][i] = peak_pair(lane, 4 + 2 * c + i);
    float acc[kChains][4] = {};
    for (uint32_t step = 0; step < steps; step++) {
#pragma unroll
        for (int c = 0; c < kChains; c++) mma_bf16(acc[c], a, b[c]);
#pragma unroll
        for (int i = 0; i < 4; i++) a[i] ^= 0x80008000u;
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

RALLREC_CONSTANT(peak_share, kShare);

// `out`, of one value a warp, gets the exclusive or of all words that the warp fetched, so that no
// fetch can be left out. `vectors` is a power of two.
extern "C" __global__ void __launch_bounds__(kGatherThreads)
    gather_peak(const float* __restrict__ rows, const uint32_t* __restrict__ indices, uint64_t count, uint32_t vectors,
                uint32_t* __restrict__ out) {
    const uint64_t warp = uint64_t(blockIdx.x) * (kGatherThreads / 32) + threadIdx.x / 32;
    if (warp * kShare >= count) return;
    const uint32_t lane = threadIdx.x % 32, lanes = min(vectors, 32u), groups = 32 / lanes, group = lane / lanes;
    const uint32_t share = uint32_t(min(count - warp * kShare, uint64_t(kShare)));
    uint32_t words = 0;
    for (uint32_t column = lane % lanes; column < vectors; column += lanes) {
        for (uint32_t base = 0; base < share; base += 32) {
            const uint32_t here = min(share - base, 32u);
            const uint32_t mine = lane < here ? indices[warp * kShare + base + lane] : 0u;
            for (uint32_t i = 0; i < here; i += groups * kFetches) {
                Vec<float> row[kFetches];
#pragma unroll
                for (int k = 0; k < kFetches; k++) {
                    const uint32_t at = i + k * groups + group;
                    const uint32_t source = __shfl_sync(kAllLanes, mine, at & 31);
                    if (at < here)
                        row[k].load(rows + (uint64_t(source) * vectors + column) * 4);
                    else
                        row[k].zero();
                }
#pragma unroll
                for (int k = 0; k < kFetches; k++) words ^= row[k].raw.x ^ row[k].raw.y ^ row[k].raw.z ^ row[k].raw.w;
            }
        }
    }
#pragma unroll
    for (int apart = 1; apart < 32; apart *= 2) words ^= __shfl_xor_sync(kAllLanes, words, apart);
    if (lane == 0) out[warp] = words;
}
RALLREC_KERNEL(gather_peak, kGatherThreads);
