// Adam over rows; row r gets the extra gradient weight[r] p.
//
//   m += (1 - b1)(g - m)    v = b2 v + (1 - b2) g^2    p -= rate m / (sqrt(v) / root + eps)
//
// with rate = lr / (1 - b1^t) and root = sqrt(1 - b2^t), made on the CPU in f64. A thread takes 16
// bytes of a row at a time; all is streamed once: 12 bytes read and 12 written a value beside the
// gradient's 4 or 2, about 12 FLOP.
//
// Sparse: a row whose flag is 0 (never touched: gradient, weight and moments are zero, so the step
// changes nothing) costs its flag and no more.

#include "common/base.cuh"

#define ADAM_ARGS(F) F(float*, p) F(const T*, g) F(float*, m) F(float*, v) F(const float*, weight)         \
    F(const unsigned char*, touched) F(uint64_t, values) F(uint32_t, stride) F(float, rate) F(float, root) \
    F(float, beta1) F(float, beta2) F(float, one_minus_beta1) F(float, one_minus_beta2) F(float, epsilon)
ARGUMENTS_OF(AdamArgs, ADAM_ARGS);

namespace {

constexpr int kThreads = 256;

struct AdamStep {
    float rate, root, beta1, beta2, one_minus_beta1, one_minus_beta2, epsilon;
};

template <class T>
__device__ __forceinline__ void rows(float* __restrict__ p, const T* __restrict__ g, float* __restrict__ m, float* __restrict__ v,
                                     const float* __restrict__ weight, const unsigned char* __restrict__ touched,
                                     uint64_t values, uint32_t stride, AdamStep s) {
    const uint64_t step = uint64_t(gridDim.x) * kThreads * 4;
    for (uint64_t at = (uint64_t(blockIdx.x) * kThreads + threadIdx.x) * 4; at < values; at += step) {
        const uint64_t row = at / stride;
        if (touched && !touched[row]) continue;
        const float extra = weight ? weight[row] : 0.0f;
        Vec<float> p4, m4, v4;
        p4.load(p + at);
        m4.load(m + at);
        v4.load(v + at);
        float pn[4], mn[4], vn[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float grad = to_float(g[at + i]) + extra * p4.get(i);
            mn[i] = m4.get(i) + s.one_minus_beta1 * (grad - m4.get(i));
            vn[i] = s.beta2 * v4.get(i) + s.one_minus_beta2 * grad * grad;
            pn[i] = p4.get(i) - s.rate * mn[i] / (sqrtf(vn[i]) / s.root + s.epsilon);
        }
        Vec<float>::store(p + at, pn);
        Vec<float>::store(m + at, mn);
        Vec<float>::store(v + at, vn);
    }
}

}  // namespace

#define ADAM(SUFFIX, T)                                                                                       \
    extern "C" __global__ void __launch_bounds__(kThreads)                                                    \
        adam_rows_##SUFFIX(const __grid_constant__ AdamArgs<T> a) {                                           \
        rows<T>(a.p, a.g, a.m, a.v, a.weight, a.touched, a.values, a.stride,                                  \
                AdamStep{a.rate, a.root, a.beta1, a.beta2, a.one_minus_beta1, a.one_minus_beta2, a.epsilon}); \
    }                                                                                                         \
    RALLREC_KERNEL(adam_rows_##SUFFIX, kThreads);

ADAM(f32, float)
ADAM(bf16, bf16)
