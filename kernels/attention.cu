// Causal grouped-query attention over a ragged batch without padding (FlashAttention-2's order of
// loops): prompts, training.
//
// A block takes up to 64 (f32: 32) query rows of one sequence and one head, and walks over the keys
// that they see: first all of a shared run (a common prompt, or the past), then the sequence's own
// keys up to the causal edge. Tiles beyond the edge are not read. See common/attention.cuh for the
// tile.
//
//   keys ->  | run 0: all rows see all of it |  run 1: row i sees visible + i of it  |
//   row 0      ################################   ####
//   row 1      ################################   #####
//
// With a window, a row sees no more than so many of the last of these: tiles before the first row's
// window are not read.
//
// With `lse`, (rows, heads), the log of each softmax's denominator, which is all that the backward
// keeps.
//
// FLOP: 4 D for each (query, head, visible key). Bytes: s (2 M H D) + s 2 D kv_heads x distinct
// keys (those of a sequence are read again from L2 by every tile of queries and every head of a
// group).

#include "common/attention.cuh"

#define ATTENTION_ARGS(F) F(const AttentionWork*, works) F(uint32_t, heads) F(uint32_t, kv_heads) F(uint32_t, dim) \
    F(float, scale) F(uint32_t, window) F(const T*, q) F(uint32_t, stride_q) F(const T*, keys)                     \
    F(uint32_t, stride_k) F(const T*, values) F(uint32_t, stride_v) F(T*, out) F(uint32_t, stride_out)             \
    F(float*, lse)
ARGUMENTS_OF(AttentionArgs, ATTENTION_ARGS);

namespace {

template <class T, int D>
__device__ __forceinline__ void attention(AttentionShared<T, D>& shared, const AttentionWork* works, const AttentionInput& in,
                                          const T* q, const T* keys, const T* values, T* out, uint32_t stride_out, float* lse) {
    const AttentionWork work = works[blockIdx.x];
    const uint32_t head = blockIdx.y;
    AttentionState<D> state;
    const uint64_t before = uint64_t(work.len[0]) + (work.visible == ~0u ? work.len[1] : work.visible);
    const uint32_t window = in.window;
    attend<T, D>(shared, work, head, in, q, keys, values, state, first_in_window(before, window),
                 [=](uint32_t row) { return first_in_window(before + row, window); });
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const uint32_t row = 16 * (threadIdx.x / 32) + g + 8 * h;
        if (row >= work.rows) continue;
        const float inverse = state.total[h] > 0 ? 1.0f / state.total[h] : state.total[h] == 0 ? 0.0f : state.total[h];
        T* to = out + (work.row + row) * stride_out + uint64_t(head) * in.dim;
#pragma unroll
        for (int n = 0; n < D / 8; n++)
#pragma unroll
            for (int c = 0; c < 2; c++) {
                const uint32_t column = 8 * n + 2 * t + c;
                if (column < in.dim) to[column] = from_float<T>(state.out[n][2 * h + c] * inverse);
            }
        if (lse && t == 0) lse[(work.row + row) * in.heads + head] = (state.top[h] + log2f(state.total[h])) * kLn2;
    }
}

}  // namespace

RALLREC_CONSTANT(attention_rows_f32, 16 * AttentionTile<float>::warps);
RALLREC_CONSTANT(attention_rows_bf16, 16 * AttentionTile<bf16>::warps);
RALLREC_CONSTANT(attention_shared_f32_64, sizeof(AttentionShared<float, 64>));
RALLREC_CONSTANT(attention_shared_f32_128, sizeof(AttentionShared<float, 128>));
RALLREC_CONSTANT(attention_shared_bf16_64, sizeof(AttentionShared<bf16, 64>));
RALLREC_CONSTANT(attention_shared_bf16_128, sizeof(AttentionShared<bf16, 128>));

#define ATTENTION(NAME, T, D)                                                                                          \
    extern "C" __global__ void __launch_bounds__(32 * AttentionTile<T>::warps)                                         \
        NAME(const __grid_constant__ AttentionArgs<T> a) {                                                             \
        DYNAMIC_SHARED(bytes);                                                                                         \
        const AttentionInput in = {a.heads, a.kv_heads, a.dim, a.stride_q, a.stride_k, a.stride_v, a.scale, a.window}; \
        attention<T, D>(*reinterpret_cast<AttentionShared<T, D>*>(bytes), a.works, in, a.q, a.keys, a.values, a.out,   \
                        a.stride_out, a.lse);                                                                          \
    }                                                                                                                  \
    RALLREC_KERNEL(NAME, 32 * AttentionTile<T>::warps);

ATTENTION(attention_f32_64, float, 64)
ATTENTION(attention_f32_128, float, 128)
ATTENTION(attention_bf16_64, bf16, 64)
ATTENTION(attention_bf16_128, bf16, 128)
