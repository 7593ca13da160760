// The values of a quantised weight as f32, for products of more rows than linear_decode.cu takes:
// each is what its block says, rounded once.
//
// A thread writes the eight values of a lane's share of a block (common/blocks.cuh); four
// neighbours write a block's 128 bytes. Blocks stay in memory beside nothing: what is written here
// lives as long as one product.
//
// Bytes: N K (1.0625, 0.5625 or 0.625) + 4 N K.

#include "common/blocks.cuh"

namespace {

constexpr int kThreads = 256;

template <class F>
__device__ __forceinline__ void dequantise(const Weights& w, float* __restrict__ out) {
    const uint32_t blocks = w.depth / 32;
    const uint64_t at = uint64_t(blockIdx.x) * kThreads + threadIdx.x, place = at / 4, row = place / blocks;
    if (row >= w.rows) return;
    const int t = at % 4;
    const uint32_t block = uint32_t(place % blocks), group = block / F::kBlocks, within = block % F::kBlocks;
    uint32_t pairs[4];
    uint4 raw = F::load(w, row, group, t);
    for (uint32_t i = 0; i < within; i++) F::next(raw);
    F::dequantise(raw, pairs);
    const uint64_t factor = row * F::groups(w) * F::kBlocks + block;
    const float d = half_to_float(w.scale[factor]), m = F::kMinimum ? half_to_float(w.minimum[factor]) : 0.0f;
    float* to = out + row * w.stride + block * 32 + 8 * t;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const uint32_t low = pairs[2 * i], high = pairs[2 * i + 1];
        // d q is exact, so that the sum is rounded once with or without a fused multiply-add.
        auto value = [&](uint32_t bits) { return F::kMinimum ? d * __uint_as_float(bits) + m : d * __uint_as_float(bits); };
        *reinterpret_cast<float4*>(to + 4 * i) =
            make_float4(value(low << 16), value(low & 0xffff0000u), value(high << 16), value(high & 0xffff0000u));
    }
}

}  // namespace

#define DEQUANTISE(NAME, F)                                                                                                          \
    extern "C" __global__ void __launch_bounds__(kThreads)                                                                      \
        NAME(const void* values, const uint16_t* scale, const uint16_t* minimum, uint32_t rows, uint32_t depth, uint32_t stride, \
             float* out) {                                                                                                      \
        dequantise<F>(Weights{values, scale, minimum, rows, depth, stride}, out);                                                    \
    }                                                                                                                           \
    RALLREC_KERNEL(NAME, kThreads)

DEQUANTISE(dequantise_q8_0, Q8);
DEQUANTISE(dequantise_q4_0, Q4<false>);
DEQUANTISE(dequantise_q4_1, Q4<true>);
