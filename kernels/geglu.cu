// GEGLU, y = gelu(gate) up with the tanh form of GELU, gelu(g) = g / (1 + e^(-2 z)), z = sqrt(2 /
// pi) (g + 0.044715 g^3), and its backward.
//
// Layout. Gate, up and y are matrices of one shape and stride: a thread takes 16 bytes of each,
//
//   row | gate 0 .. W-1 |, | up 0 .. W-1 |   ->   row | y 0 .. W-1 |
//          ^ V values         ^ V values                 ^ V values
//
// and the backward puts the gradients where gate and up stood, since nobody needs those afterwards.
//
// The gate is clamped where it enters z: beyond 20 either side it is open or shut to every float,
// and the cube stays finite.
//
// Bytes: s (3 M W), backward s (5 M W). FLOP: about 16 M W and 28 M W.

#include "common/gate.cuh"

namespace {

constexpr int kThreads = 256;
constexpr float kTwice = 1.5957691216057308f;  // 2 sqrt(2 / pi)
constexpr float kCube = 0.044715f;
constexpr float kWide = 20.0f;

struct Open {
    float by;     // 1 / (1 + e^(-2 z))
    float slope;  // of 2 z
};

__device__ __forceinline__ Open open_by(float g) {
    const float c = fminf(fmaxf(g, -kWide), kWide), square = c * c;
    return {1.0f / (1.0f + expf(-kTwice * c * (1.0f + kCube * square))), kTwice * (1.0f + 3.0f * kCube * square)};
}

template <class T>
__device__ __forceinline__ void forward(const T* gate, const T* up, uint64_t rows, uint32_t width, uint32_t stride, T* y) {
    constexpr int V = Vec<T>::size;
    const GatePlace at = gate_place<V, kThreads>(rows, width);
    if (!at.inside) return;
    const uint64_t from = at.row * stride + at.column;
    Vec<T> g, u;
    g.load(gate + from);
    u.load(up + from);
    float out[V];
#pragma unroll
    for (int i = 0; i < V; i++) out[i] = g.get(i) * open_by(g.get(i)).by * u.get(i);
    Vec<T>::store(y + from, out);
}

template <class T>
__device__ __forceinline__ void backward(T* gate, T* up, const T* dy, uint64_t rows, uint32_t width, uint32_t stride) {
    constexpr int V = Vec<T>::size;
    const GatePlace at = gate_place<V, kThreads>(rows, width);
    if (!at.inside) return;
    const uint64_t from = at.row * stride + at.column;
    Vec<T> g, u, d;
    g.load(gate + from);
    u.load(up + from);
    d.load(dy + from);
    float by_gate[V], by_up[V];
#pragma unroll
    for (int i = 0; i < V; i++) {
        const Open open = open_by(g.get(i));
        const float value = g.get(i) * open.by;
        by_up[i] = d.get(i) * value;
        by_gate[i] = d.get(i) * u.get(i) * (open.by + value * (1.0f - open.by) * open.slope);
    }
    Vec<T>::store(gate + from, by_gate);
    Vec<T>::store(up + from, by_up);
}

}  // namespace

#define GEGLU(SUFFIX, T)                                                                                                \
    extern "C" __global__ void __launch_bounds__(kThreads)                                                              \
        geglu_##SUFFIX(const T* gate, const T* up, uint64_t rows, uint32_t width, uint32_t stride, T* y) {              \
        forward<T>(gate, up, rows, width, stride, y);                                                                   \
    }                                                                                                                   \
    RALLREC_KERNEL(geglu_##SUFFIX, kThreads);                                                                           \
    extern "C" __global__ void __launch_bounds__(kThreads)                                                              \
        geglu_backward_##SUFFIX(T* gate, T* up, const T* dy, uint64_t rows, uint32_t width, uint32_t stride) {          \
        backward<T>(gate, up, dy, rows, width, stride);                                                                 \
    }                                                                                                                   \
    RALLREC_KERNEL(geglu_backward_##SUFFIX, kThreads);

GEGLU(f32, float)
GEGLU(bf16, bf16)
