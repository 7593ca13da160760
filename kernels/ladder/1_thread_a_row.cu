// The first rung of the ladder in docs/kernels.md: RMSNorm as a loop that a thread walks by itself.
//
//   rallrec check rmsnorm --kernels kernels/ladder/1_thread_a_row.cu
//
// One thread of the R that a row has does all the work. It is right, and easy to be sure of. But 31
// of 32 lanes do nothing, and the one that works reads 4 bytes where the memory brings 32.

#include "common/base.cuh"

#define NORM_ARGS(F) F(T*, x) F(const T*, add) F(const float*, w) F(float, eps) F(uint64_t, rows) F(uint32_t, heads) \
    F(uint32_t, dim) F(uint32_t, stride) F(T*, y) F(float*, rstd)
ARGUMENTS_OF(NormArgs, NORM_ARGS);

namespace {

template <int R> constexpr int block_of = R == 32 ? 128 : R;

template <class T, int R> __device__ void norm(const NormArgs<T>& a) {
    const uint64_t unit = uint64_t(blockIdx.x) * (blockDim.x / R) + threadIdx.x / R;
    if (threadIdx.x % R != 0 || unit >= a.rows * a.heads) return;
    const uint64_t base = unit / a.heads * a.stride + unit % a.heads * a.dim;
    // Behind its last value a row has zeros up to a whole vector of 16 bytes: they stay zeros.
    constexpr uint32_t V = Vec<T>::size;
    const uint32_t padded = (a.dim + V - 1) / V * V;
    float squares = 0;
    for (uint32_t i = 0; i < padded; i++) {
        float v = to_float(a.x[base + i]);
        if (a.add) {
            a.x[base + i] = from_float<T>(v + to_float(a.add[base + i]));
            v = to_float(a.x[base + i]);  // rounded, as later reads see it
        }
        squares += v * v;
    }
    const float r = 1.0f / sqrtf(squares / float(a.dim) + a.eps);
    if (a.rstd) a.rstd[unit] = r;
    for (uint32_t i = 0; i < padded; i++) a.y[base + i] = from_float<T>(to_float(a.x[base + i]) * r * a.w[i]);
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
