// The second rung of the ladder in docs/kernels.md: neighbouring threads take neighbouring values.
//
//   rallrec check rmsnorm --kernels kernels/ladder/2_value_a_thread.cu
//
// A row's R threads read 4 R bytes side by side (2 R in bf16), so all that the memory brings is
// used. Their sums meet by shuffles, those of several warps in shared memory. But a load moves 4
// bytes a lane, so more instructions are issued than with 16.

#include "common/base.cuh"
#include "common/warp.cuh"

#define NORM_ARGS(F) F(T*, x) F(const T*, add) F(const float*, w) F(float, eps) F(uint64_t, rows) F(uint32_t, heads) \
    F(uint32_t, dim) F(uint32_t, stride) F(T*, y) F(float*, rstd)
ARGUMENTS_OF(NormArgs, NORM_ARGS);

namespace {

template <int R> constexpr int block_of = R == 32 ? 128 : R;

// Sum over the R threads of a row; all threads of the block call it.
template <int R> __device__ float row_sum(float x) {
    x = warp_sum(x);
    if constexpr (R > 32) {
        SHARED(float, parts, [R / 32]);
        if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
        __syncthreads();
        x = parts[0];
        for (int w = 1; w < R / 32; w++) x += parts[w];
    }
    return x;
}

template <class T, int R> __device__ void norm(const NormArgs<T>& a) {
    const uint64_t unit = uint64_t(blockIdx.x) * (blockDim.x / R) + threadIdx.x / R;
    // No thread leaves before the sum, where all of them meet.
    const bool live = unit < a.rows * a.heads;
    const uint64_t base = live ? unit / a.heads * a.stride + unit % a.heads * a.dim : 0;
    // Behind its last value a row has zeros up to a whole vector of 16 bytes: they stay zeros.
    constexpr uint32_t V = Vec<T>::size;
    const uint32_t padded = live ? (a.dim + V - 1) / V * V : 0;
    float squares = 0;
    for (uint32_t i = threadIdx.x % R; i < padded; i += R) {
        float v = to_float(a.x[base + i]);
        if (a.add) {
            a.x[base + i] = from_float<T>(v + to_float(a.add[base + i]));
            v = to_float(a.x[base + i]);  // rounded, as later reads see it
        }
        squares += v * v;
    }
    const float r = 1.0f / sqrtf(row_sum<R>(squares) / float(a.dim) + a.eps);
    if (live && a.rstd && threadIdx.x % R == 0) a.rstd[unit] = r;
    for (uint32_t i = threadIdx.x % R; i < padded; i += R)
        a.y[base + i] = from_float<T>(to_float(a.x[base + i]) * r * a.w[i]);
}

}  // namespace

#define RMSNORM(SUFFIX, T, R)                                                                                      \
    extern "C" __global__ void __launch_bounds__(block_of<R>) rmsnorm_##SUFFIX(const __grid_constant__ NormArgs<T> a) { \
        norm<T, R>(a);                                                                                             \
    }                                                                                                              \
    RALLREC_KERNEL(rmsnorm_##SUFFIX, block_of<R>);

RMSNORM(f32_32, float, 32)
RMSNORM(f32_256, float, 256)
RMSNORM(bf16_32, bf16, 32)
RMSNORM(bf16_256, bf16, 256)
