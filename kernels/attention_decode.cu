// Attention of a decode step for S samples of one prompt: the prompt's keys and values are stored,
// and read, once.
//
// The query heads of a kv head, of all samples, are the rows of one matrix tile (16 samples of
// groups of 4 fill 64 rows):
//
//   rows    | sample 0: G heads | sample 1: G heads | ...          x    keys of the prompt, cut into spans over blocks
//   rows    | sample s: G heads |                                  x    its own answer so far, cut likewise
//
// Every block leaves a partial result of its rows, (maximum, sum, values), f32, base 2;
// `decode_attention_merge` joins a sample's partials in the order of its list. An empty part has
// maximum -inf, sum 0: its weight is 2^(-inf - M) = 0, and where all are empty M is taken as 0, so
// that -inf - -inf cannot arise. No atomics: the same bits every run, and the same whatever other
// samples are beside it.
//
// `ends` says of every query row how many keys it sees in all; with a window only the last of them
// count.
//
// Bytes: s 2 D n_kv (P + sum of T_i) + partials 4 (D + 2) S H x spans. FLOP: 4 D S H (P + T).

#include "common/attention.cuh"

#define DECODE_ARGS(F) F(const AttentionWork*, works) F(uint32_t, heads) F(uint32_t, kv_heads) F(uint32_t, dim)  \
    F(float, scale) F(uint32_t, window) F(const T*, q) F(uint32_t, stride_q) F(const T*, keys)                   \
    F(uint32_t, stride_k) F(const T*, values) F(uint32_t, stride_v) F(float*, partials) F(const uint32_t*, ends)
ARGUMENTS_OF(DecodeArgs, DECODE_ARGS);

struct DecodePart {
    uint32_t slot;    // of the work
    uint32_t sample;  // within its rows
};

#define DECODE_MERGE_ARGS(F) F(const DecodePart*, parts) F(const uint32_t*, begins) F(const float*, partials) \
    F(uint64_t, rows) F(uint32_t, heads) F(uint32_t, kv_heads) F(uint32_t, dim) F(T*, out) F(uint32_t, stride)
ARGUMENTS_OF(DecodeMergeArgs, DECODE_MERGE_ARGS);

namespace {

// A partial holds 64 rows of `pitch` values: D sums, the maximum, the sum.
constexpr uint32_t kPartRows = 64;
__device__ __forceinline__ uint64_t part_at(uint32_t slot, uint32_t kv, uint32_t kv_heads, uint32_t row, uint32_t pitch) {
    return ((uint64_t(slot) * kv_heads + kv) * kPartRows + row) * pitch;
}

template <class T, int D>
__device__ __forceinline__ void decode(AttentionShared<T, D>& shared, const AttentionWork* works, const AttentionInput& in,
                                       const T* q, const T* keys, const T* values, float* partials, const uint32_t* ends) {
    const AttentionWork work = works[blockIdx.x];
    const uint32_t kv = blockIdx.y, pitch = in.dim + 2;
    AttentionState<D> state;
    // Run 1 is empty: its place says how many keys of the sample come before those of this block.
    // A window is below 2^31, as are keys.
    const uint32_t hidden = in.window + uint32_t(work.first[1]);
    ends += work.row;
    auto first_of = [=](uint32_t row) { return ends[row] > hidden ? ends[row] - hidden : 0; };
    uint32_t least = 0;
    if (in.window != ~0u && work.rows) {
        least = first_of(0);
        for (uint32_t row = 1; row < work.rows / work.pack; row++) least = min(least, first_of(row));
    }
    attend<T, D>(shared, work, kv * (in.heads / in.kv_heads), in, q, keys, values, state, least, first_of);
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const uint32_t row = 16 * (threadIdx.x / 32) + g + 8 * h;
        if (row >= work.rows) continue;
        float* to = partials + part_at(work.slot, kv, in.kv_heads, row, pitch);
#pragma unroll
        for (int n = 0; n < D / 8; n++)
#pragma unroll
            for (int c = 0; c < 2; c++) {
                const uint32_t column = 8 * n + 2 * t + c;
                if (column < in.dim) to[column] = state.out[n][2 * h + c];
            }
        if (t == 0) to[in.dim] = state.top[h], to[in.dim + 1] = state.total[h];
    }
}

// A warp joins the parts of one sample's head.
template <class T>
__device__ __forceinline__ void merge(const DecodePart* parts, const uint32_t* begins, const float* partials, uint64_t rows,
                                      uint32_t heads, uint32_t kv_heads, uint32_t dim, T* out, uint32_t stride) {
    const uint64_t unit = uint64_t(blockIdx.x) * 4 + threadIdx.x / 32;
    if (unit >= rows * heads) return;
    const uint64_t row = unit / heads;
    const uint32_t head = uint32_t(unit % heads), group = heads / kv_heads, pitch = dim + 2;
    auto part = [&](uint32_t i) {
        return partials + part_at(parts[i].slot, head / group, kv_heads, parts[i].sample * group + head % group, pitch);
    };
    float top = -INFINITY;
    for (uint32_t i = begins[row]; i < begins[row + 1]; i++) top = fmaxf(top, part(i)[dim]);
    const float base = top == -INFINITY ? 0.0f : top;
    float total = 0;
    for (uint32_t i = begins[row]; i < begins[row + 1]; i++) total += part(i)[dim + 1] * fast_exp2(part(i)[dim] - base);
    const float inverse = total > 0 ? 1.0f / total : total == 0 ? 0.0f : total;
    for (uint32_t column = threadIdx.x % 32; column < dim; column += 32) {
        float sum = 0;
        for (uint32_t i = begins[row]; i < begins[row + 1]; i++) sum += part(i)[column] * fast_exp2(part(i)[dim] - base);
        out[row * stride + uint64_t(head) * dim + column] = from_float<T>(sum * inverse);
    }
}

}  // namespace

RALLREC_CONSTANT(attention_part_rows, kPartRows);

#define DECODE_ATTENTION(NAME, T, D)                                                                                   \
    extern "C" __global__ void __launch_bounds__(32 * AttentionTile<T>::warps)                                         \
        NAME(const __grid_constant__ DecodeArgs<T> a) {                                                                \
        DYNAMIC_SHARED(bytes);                                                                                         \
        const AttentionInput in = {a.heads, a.kv_heads, a.dim, a.stride_q, a.stride_k, a.stride_v, a.scale, a.window}; \
        decode<T, D>(*reinterpret_cast<AttentionShared<T, D>*>(bytes), a.works, in, a.q, a.keys, a.values,             \
                     a.partials, a.ends);                                                                              \
    }                                                                                                                  \
    RALLREC_KERNEL(NAME, 32 * AttentionTile<T>::warps);

DECODE_ATTENTION(decode_attention_f32_64, float, 64)
DECODE_ATTENTION(decode_attention_f32_128, float, 128)
DECODE_ATTENTION(decode_attention_bf16_64, bf16, 64)
DECODE_ATTENTION(decode_attention_bf16_128, bf16, 128)

#define DECODE_MERGE(NAME, T)                                                                         \
    extern "C" __global__ void __launch_bounds__(128)                                                 \
        NAME(const __grid_constant__ DecodeMergeArgs<T> a) {                                          \
        merge<T>(a.parts, a.begins, a.partials, a.rows, a.heads, a.kv_heads, a.dim, a.out, a.stride); \
    }                                                                                                 \
    RALLREC_KERNEL(NAME, 128);

DECODE_MERGE(decode_attention_merge_f32, float)
DECODE_MERGE(decode_attention_merge_bf16, bf16)
