// Rotary positions, half-split: values i and i + d/2 of a head turn by the angle of (position, i),
// in place; or back.
//
// Layout. A row holds heads side by side from column `column`; a thread turns V pairs, 16 bytes of
// either half:
//
//   row | head 0: first half | second half | head 1: ...      table[position] = d/2 cosines, d/2 sines (f32, made in f64)
//          ^ V values          ^ V values                     heads of a row read the same 8 d bytes: L1
//
// Queries and keys that stand side by side are one call. Where d/2 is no multiple of V, a thread
// turns one pair.
//
// Bytes: s (2 M heads d) + 4 M d of the table. FLOP: 3 M heads d.

#include "common/base.cuh"

#define ROPE_ARGS(F) F(T*, x) F(const float*, table) F(const uint32_t*, positions) F(uint64_t, rows) \
    F(uint32_t, heads) F(uint32_t, half) F(uint32_t, stride) F(uint32_t, column) F(float, sign)
ARGUMENTS_OF(RopeArgs, ROPE_ARGS);

namespace {

constexpr int kThreads = 256;

template <class T, int V>
__device__ __forceinline__ void rope(T* x, const float* table, const uint32_t* positions, uint64_t rows, uint32_t heads,
                                     uint32_t half, uint32_t stride, uint32_t column, float sign) {
    const uint32_t pieces = half / V;
    const uint64_t unit = uint64_t(blockIdx.x) * kThreads + threadIdx.x;
    if (unit >= rows * heads * pieces) return;
    const uint64_t row = unit / (uint64_t(heads) * pieces);
    const uint32_t rest = uint32_t(unit % (uint64_t(heads) * pieces)), i = rest % pieces * V;
    T* a = x + row * stride + column + rest / pieces * uint64_t(2 * half) + i;
    T* b = a + half;
    const float* cos = table + uint64_t(positions[row]) * 2 * half + i;
    const float* sin = cos + half;
    if constexpr (V == 1) {
        const float u = to_float(*a), v = to_float(*b), s = sign * *sin;
        *a = from_float<T>(u * *cos - v * s);
        *b = from_float<T>(v * *cos + u * s);
    } else {
        Vec<T> raw_a, raw_b;
        raw_a.load(a);
        raw_b.load(b);
        float out_a[V], out_b[V];
#pragma unroll
        for (int j = 0; j < V; j += 4) {
            Vec<float> c, s;
            c.load(cos + j);
            s.load(sin + j);
#pragma unroll
            for (int k = 0; k < 4; k++) {
                const float u = raw_a.get(j + k), v = raw_b.get(j + k), turn = sign * s.get(k);
                out_a[j + k] = u * c.get(k) - v * turn;
                out_b[j + k] = v * c.get(k) + u * turn;
            }
        }
        Vec<T>::store(a, out_a);
        Vec<T>::store(b, out_b);
    }
}

}  // namespace

#define ROPE(NAME, T, V)                                                                            \
    extern "C" __global__ void __launch_bounds__(kThreads)                                          \
        NAME(const __grid_constant__ RopeArgs<T> a) {                                               \
        rope<T, V>(a.x, a.table, a.positions, a.rows, a.heads, a.half, a.stride, a.column, a.sign); \
    }                                                                                               \
    RALLREC_KERNEL(NAME, kThreads);

ROPE(rope_f32, float, 4)
ROPE(rope_bf16, bf16, 8)
ROPE(rope_f32_single, float, 1)
ROPE(rope_bf16_single, bf16, 1)
