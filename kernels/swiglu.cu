// SwiGLU, y = silu(gate) up with silu(g) = g / (1 + e^-g), and its backward.
//
// Layout. Gate and up are columns of one product's rows (or two buffers of one stride): a thread
// takes 16 bytes of each,
//
//   row | gate 0 .. W-1 | up 0 .. W-1 |   ->   row | y 0 .. W-1 |
//          ^ V values      ^ V values                 ^ V values
//
// and the backward puts the gradients where gate and up stood, since nobody needs those afterwards.
//
// Bytes: s (3 M W), backward s (5 M W). FLOP: about 12 M W and 20 M W.

#include "common/gate.cuh"

namespace {

constexpr int kThreads = 256;

template <class T>
__device__ __forceinline__ void forward(const T* gate, const T* up, uint64_t rows, uint32_t width, uint32_t stride, T* y,
                                        uint32_t stride_y) {
    constexpr int V = Vec<T>::size;
    const GatePlace at = gate_place<V, kThreads>(rows, width);
    if (!at.inside) return;
    Vec<T> g, u;
    g.load(gate + at.row * stride + at.column);
    u.load(up + at.row * stride + at.column);
    float out[V];
#pragma unroll
    for (int i = 0; i < V; i++) out[i] = g.get(i) / (1.0f + expf(-g.get(i))) * u.get(i);
    Vec<T>::store(y + at.row * stride_y + at.column, out);
}

template <class T>
__device__ __forceinline__ void backward(T* gate, T* up, const T* dy, uint64_t rows, uint32_t width, uint32_t stride,
                                         uint32_t stride_y) {
    constexpr int V = Vec<T>::size;
    const GatePlace at = gate_place<V, kThreads>(rows, width);
    if (!at.inside) return;
    Vec<T> g, u, d;
    g.load(gate + at.row * stride + at.column);
    u.load(up + at.row * stride + at.column);
    d.load(dy + at.row * stride_y + at.column);
    float by_gate[V], by_up[V];
#pragma unroll
    for (int i = 0; i < V; i++) {
        const float s = 1.0f / (1.0f + expf(-g.get(i))), silu = g.get(i) * s;
        by_up[i] = d.get(i) * silu;
        by_gate[i] = d.get(i) * u.get(i) * (s + silu * (1.0f - s));
    }
    Vec<T>::store(gate + at.row * stride + at.column, by_gate);
    Vec<T>::store(up + at.row * stride + at.column, by_up);
}

}  // namespace

#define SWIGLU(SUFFIX, T)                                                                                                 \
    extern "C" __global__ void __launch_bounds__(kThreads)                                                                \
        swiglu_##SUFFIX(const T* gate, const T* up, uint64_t rows, uint32_t width, uint32_t stride, T* y,                 \
                        uint32_t stride_y) {                                                                              \
        forward<T>(gate, up, rows, width, stride, y, stride_y);                                                           \
    }                                                                                                                     \
    RALLREC_KERNEL(swiglu_##SUFFIX, kThreads);                                                                            \
    extern "C" __global__ void __launch_bounds__(kThreads)                                                                \
        swiglu_backward_##SUFFIX(T* gate, T* up, const T* dy, uint64_t rows, uint32_t width, uint32_t stride,             \
                                 uint32_t stride_y) {                                                                     \
        backward<T>(gate, up, dy, rows, width, stride, stride_y);                                                         \
    }                                                                                                                     \
    RALLREC_KERNEL(swiglu_backward_##SUFFIX, kThreads);

SWIGLU(f32, float)
SWIGLU(bf16, bf16)
