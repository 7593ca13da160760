// Gradients of attention.cu's attention, from the log-sum-exp of each row alone: probabilities are
// computed again.
//
//   P = exp(S - lse)   D_i = dO_i . O_i   dS = P (dO V^T - D)   dQ = dS K / sqrt(d)   dK = dS^T Q / sqrt(d)   dV = P^T dO
//
//   attention_delta     D, a warp for each (row, head)
//   attention_by_query  a block owns a tile of query rows of one head and walks over the keys they see: dQ
//   attention_by_key    a block owns a tile of key rows of one kv head and walks over the queries that see it, of all heads
//                       of the group, in one order: dK and dV. No atomics, so the bits are the same every run; the price
//                       is that S and dO V^T are made twice (7 products and not 5).
//
// Both are one body: two tiles are owned (Q, dO or K, V), two are streamed (K, V or Q, dO).
//
//            streamed rows ->                               fragments of dS (and of P) are, as they lie, the left
//   owned  | S = own0 str0^T    dP = own1 str1^T |          operands of  sum0 += dS str0,  sum1 += P str1
//   rows   | P, dS in registers, never stored    |
//
//   bf16   64 owned rows (4 warps), 32 streamed, two stages of cp.async
//   f32    32 owned rows (2 warps), 16 streamed, one stage, three bf16 planes of everything
//
// lse and D of streamed queries come with their rows: a thread loads one number a tile ahead. Most
// tiles are seen whole by every row, and only those at an edge are compared key by key.
//
// What is streamed is a list of runs of rows. Key r of a run is seen by query i if r < edge + i,
// whichever of the two is counted in the run and which in the tile, and if it is one of the last
// `window` of these.
//
// FLOP: 14 D for each (query, head, visible key). Bytes: s (4 M H D + 4 keys kv_heads D) + 4 of
// each gradient.

#include "common/attention.cuh"
#include "common/warp.cuh"

struct AttentionTileOf {
    uint64_t row;         // first owned row
    uint32_t rows;        // of the tile
    uint32_t runs;        // how many are streamed
    uint64_t first_run;
};

struct AttentionRun {
    uint64_t row;   // first row
    uint32_t len;   // at least 1
    uint32_t edge;  // see above; below 2^31
};

// `d0` is dQ by query and dK by key; `d1` is dV by key.
#define ATTENTION_BACKWARD_ARGS(F) F(const AttentionTileOf*, tiles) F(const AttentionRun*, runs) F(uint32_t, heads) \
    F(uint32_t, kv_heads) F(uint32_t, dim) F(float, scale) F(uint32_t, window) F(const T*, q) F(uint32_t, stride_q) \
    F(const T*, k) F(uint32_t, stride_k) F(const T*, v) F(uint32_t, stride_v) F(const T*, by_out)                   \
    F(uint32_t, stride_o) F(const float*, lse) F(const float*, delta) F(float*, d0) F(uint32_t, stride_d0)          \
    F(float*, d1) F(uint32_t, stride_d1)
ARGUMENTS_OF(AttentionBackwardArgs, ATTENTION_BACKWARD_ARGS);

namespace {

template <class T> struct BackTile;
template <> struct BackTile<bf16> { static constexpr int warps = 4, streamed = 32, stages = 2; };
template <> struct BackTile<float> { static constexpr int warps = 2, streamed = 16, stages = 1; };

template <class T, int D> struct BackShared {
    using Tile = BackTile<T>;
    static constexpr int P = Planes<T>::count;
    uint16_t own[2][P][16 * Tile::warps][D + 8];
    uint16_t streamed[Tile::stages][2][P][Tile::streamed][D + 8];
    // By key: lse (base 2) and D of the streamed queries.
    float of_rows[Tile::stages][2][Tile::streamed];
};

// Two matrices of the same rows: (Q, dO) or (K, V), `heads` heads a row.
template <class T> struct RowPair {
    const T* of[2];
    uint32_t stride[2];
};

template <bool kValue> struct Is { static constexpr bool value = kValue; };

// kByKey: K and V are owned, `head` is a kv head. Otherwise Q and dO are, `head` is a query head.
template <bool kByKey, class T, int D>
__device__ __forceinline__ void backward(BackShared<T, D>& shared, const AttentionTileOf* tiles, const AttentionRun* all_runs,
                                         const RowPair<T>& queries, const RowPair<T>& keys, uint32_t heads, uint32_t kv_heads,
                                         uint32_t dim, float scale, uint32_t window, const float* lse, const float* delta, float* out0,
                                         uint32_t stride0, float* out1, uint32_t stride1) {
    using Tile = BackTile<T>;
    constexpr int K = Tile::streamed, kRows = 16 * Tile::warps, kThreads = 32 * Tile::warps, kSharers = 8;
    constexpr int kStages = Tile::stages, kSums = kByKey ? 2 : 1;
    // Two sums of 128 columns in f32: no registers are left for more than the products.
    constexpr bool kTight = kByKey && kStages == 1 && D > 64;
    const AttentionTileOf tile = tiles[blockIdx.x];
    const AttentionRun* runs = all_runs + tile.first_run;
    const uint32_t group = heads / kv_heads, head = blockIdx.y, passes = kByKey ? group : 1;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4, sharer = threadIdx.x % kSharers;
    const uint32_t streamed_head = kByKey ? head * group : head / group;
    struct Place {
        uint32_t pass, run, first;
    };
    auto next = [&](Place& at) {
        at.first += K;
        if (at.first < runs[at.run].len) return;
        at.first = 0;
        if (++at.run < tile.runs) return;
        at.run = 0;
        at.pass++;
    };
    auto fetch = [&](const Place& at, int stage) {
        const AttentionRun run = runs[at.run];
#pragma unroll
        for (int which = 0; which < 2; which++) {
            const T* from = kByKey ? queries.of[which] : keys.of[which];
            const uint32_t stride = kByKey ? queries.stride[which] : keys.stride[which];
            // Beside the sums there are no registers for the loads of more than a row.
#pragma unroll 1
            for (int row = threadIdx.x / kSharers; row < K; row += kThreads / kSharers) {
                const bool inside = at.first + row < run.len;
                const T* source = inside ? from + (run.row + at.first + row) * stride + uint64_t(streamed_head + at.pass) * dim : from;
                strip_row<T, D, false>(shared.streamed[stage][which], row, source, inside, dim, sharer, kSharers);
            }
        }
        cp_async_commit();
    };
    // By key: what this thread brings of a tile's lse and D.
    const int which_of = threadIdx.x / K, row_of = threadIdx.x % K;
    static_assert(kThreads >= 2 * K, "a thread brings one number");
    auto of_row = [&](const Place& at) {
        const AttentionRun run = runs[at.run];
        if (which_of >= 2 || at.first + row_of >= run.len) return 0.0f;
        const uint64_t from = (run.row + at.first + row_of) * heads + streamed_head + at.pass;
        return which_of ? delta[from] : lse[from] * kLog2e;
    };
#pragma unroll
    for (int which = 0; which < 2; which++) {
        const T* from = kByKey ? keys.of[which] : queries.of[which];
        const uint32_t stride = kByKey ? keys.stride[which] : queries.stride[which];
        for (int row = threadIdx.x / kSharers; row < kRows; row += kThreads / kSharers) {
            const bool inside = uint32_t(row) < tile.rows;
            const T* source = inside ? from + (tile.row + row) * stride + uint64_t(head) * dim : from;
            strip_row<T, D, false>(shared.own[which], row, source, inside, dim, sharer, kSharers);
        }
    }
    cp_async_commit();
    float sums[kSums][D / 8][4] = {};
    // Of owned queries: known once.
    float own_lse[2] = {}, own_delta[2] = {};
    if constexpr (!kByKey) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const uint32_t row = 16 * warp + g + 8 * h;
            if (row >= tile.rows) continue;
            own_lse[h] = lse[(tile.row + row) * heads + head] * kLog2e;
            own_delta[h] = delta[(tile.row + row) * heads + head];
        }
    }
    Place now = {0, 0, 0}, ahead = now;
    if (tile.runs == 0) now.pass = ahead.pass = passes;
    float held = 0;
    if (kStages > 1 && ahead.pass < passes) {
        fetch(ahead, 0);
        if constexpr (kByKey) held = of_row(ahead);
        next(ahead);
    }
    for (int stage = 0; now.pass < passes; next(now), stage = (stage + 1) % kStages) {
        if constexpr (kStages > 1) {
            cp_async_wait(0);
            // Whoever read this stage's numbers last is past the barrier of the tile between.
            if (kByKey && which_of < 2) shared.of_rows[stage][which_of][row_of] = held;
            __syncthreads();  // these rows are there for all, and nobody reads the other stage
            if (ahead.pass < passes) {
                fetch(ahead, (stage + 1) % kStages);
                if constexpr (kByKey) held = of_row(ahead);
                next(ahead);
            }
        } else {
            __syncthreads();
            fetch(now, stage);
            if (kByKey && !kTight && which_of < 2) shared.of_rows[stage][which_of][row_of] = of_row(now);
            cp_async_wait(0);
            __syncthreads();
        }
        const auto& rows = shared.streamed[stage];
        float p[K / 8][4] = {}, ds[K / 8][4] = {};
        constexpr int kUnroll = kByKey && kStages == 1 ? 1 : 2;  // as far ahead as registers are left for
        rows_product<kUnroll>(p, shared.own[0], rows[0]);
        rows_product<kUnroll>(ds, shared.own[1], rows[1]);
        const AttentionRun run = runs[now.run];
        auto weigh = [&](auto masked) {
#pragma unroll
            for (int n = 0; n < K / 8; n++)
#pragma unroll
                for (int c = 0; c < 4; c++) {
                    const uint32_t own = 16 * warp + g + 8 * (c / 2), column = 8 * n + 2 * t + c % 2;
                    const uint32_t streamed = now.first + column;
                    const uint32_t key = kByKey ? own : streamed, query = kByKey ? streamed : own;
                    constexpr bool kMasked = decltype(masked)::value;
                    const bool seen = !kMasked || (own < tile.rows && streamed < run.len && run.edge + query - key - 1 < window);
                    float log_sum = own_lse[c / 2], dot = own_delta[c / 2];
                    if constexpr (kTight) {
                        const uint64_t at = (run.row + streamed) * heads + streamed_head + now.pass;
                        log_sum = seen ? lse[at] * kLog2e : 0.0f;
                        dot = seen ? delta[at] : 0.0f;
                    } else if constexpr (kByKey) {
                        log_sum = shared.of_rows[stage][0][column];
                        dot = shared.of_rows[stage][1][column];
                    }
                    p[n][c] = seen ? fast_exp2(p[n][c] * scale - log_sum) : 0.0f;
                    ds[n][c] = seen ? p[n][c] * (ds[n][c] - dot) : 0.0f;
                }
        };
        // How many keys lie between a key and the last that a query sees: all below 2^31, as
        // `edge`. What is not seen because it lies ahead comes out at 2^31 or above, and no window
        // is wider.
        // Rows of the tile beyond its last are never stored.
        const uint32_t last = now.first + K - 1, own_last = kRows - 1;
        const uint32_t least = kByKey ? run.edge + now.first - own_last - 1 : run.edge - last - 1;
        const uint32_t most = kByKey ? run.edge + last - 1 : run.edge + own_last - now.first - 1;
        if (!kTight && last < run.len && least < window && most < window)
            weigh(Is<false>{});
        else
            weigh(Is<true>{});
        constexpr bool kPromote = !kTight;
        columns_product<kPromote>(sums[0], ds, rows[0]);
        if constexpr (kByKey) columns_product<kPromote>(sums[1], p, rows[1]);
    }
    cp_async_wait(0);
    // The scale of the scores without its log2(e).
    const float natural = scale * kLn2;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const uint32_t row = 16 * warp + g + 8 * h;
        if (row >= tile.rows) continue;
#pragma unroll
        for (int n = 0; n < D / 8; n++)
#pragma unroll
            for (int c = 0; c < 2; c++) {
                const uint32_t column = 8 * n + 2 * t + c;
                if (column >= dim) continue;
                const uint64_t at = uint64_t(head) * dim + column;
                out0[(tile.row + row) * stride0 + at] = sums[0][n][2 * h + c] * natural;
                if constexpr (kByKey) out1[(tile.row + row) * stride1 + at] = sums[kSums - 1][n][2 * h + c];
            }
    }
}

template <class T>
__device__ __forceinline__ void delta_of(const T* out, uint32_t stride, const T* by_out, uint32_t by_stride, uint64_t rows,
                                         uint32_t heads, uint32_t dim, float* delta) {
    const uint64_t unit = uint64_t(blockIdx.x) * 4 + threadIdx.x / 32;
    if (unit >= rows * heads) return;
    const uint64_t row = unit / heads, column = unit % heads * dim;
    float sum = 0;
    for (uint32_t c = threadIdx.x % 32; c < dim; c += 32)
        sum += to_float(out[row * stride + column + c]) * to_float(by_out[row * by_stride + column + c]);
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) delta[unit] = sum;
}

}  // namespace

RALLREC_CONSTANT(attention_backward_rows_f32, 16 * BackTile<float>::warps);
RALLREC_CONSTANT(attention_backward_rows_bf16, 16 * BackTile<bf16>::warps);
RALLREC_CONSTANT(attention_backward_shared_f32_64, sizeof(BackShared<float, 64>));
RALLREC_CONSTANT(attention_backward_shared_f32_128, sizeof(BackShared<float, 128>));
RALLREC_CONSTANT(attention_backward_shared_bf16_64, sizeof(BackShared<bf16, 64>));
RALLREC_CONSTANT(attention_backward_shared_bf16_128, sizeof(BackShared<bf16, 128>));

#define ATTENTION_BACKWARD(SUFFIX, T, D)                                                                             \
    extern "C" __global__ void __launch_bounds__(32 * BackTile<T>::warps, 2)                                         \
        attention_by_query_##SUFFIX(const __grid_constant__ AttentionBackwardArgs<T> a) {                            \
        DYNAMIC_SHARED(bytes);                                                                                       \
        backward<false, T, D>(*reinterpret_cast<BackShared<T, D>*>(bytes), a.tiles, a.runs,                          \
                              {{a.q, a.by_out}, {a.stride_q, a.stride_o}}, {{a.k, a.v}, {a.stride_k, a.stride_v}},   \
                              a.heads, a.kv_heads, a.dim, a.scale, a.window, a.lse, a.delta, a.d0, a.stride_d0,      \
                              nullptr, 0);                                                                           \
    }                                                                                                                \
    RALLREC_KERNEL(attention_by_query_##SUFFIX, 32 * BackTile<T>::warps);                                            \
    extern "C" __global__ void __launch_bounds__(32 * BackTile<T>::warps)                                            \
        attention_by_key_##SUFFIX(const __grid_constant__ AttentionBackwardArgs<T> a) {                              \
        DYNAMIC_SHARED(bytes);                                                                                       \
        backward<true, T, D>(*reinterpret_cast<BackShared<T, D>*>(bytes), a.tiles, a.runs,                           \
                             {{a.q, a.by_out}, {a.stride_q, a.stride_o}}, {{a.k, a.v}, {a.stride_k, a.stride_v}},    \
                             a.heads, a.kv_heads, a.dim, a.scale, a.window, a.lse, a.delta, a.d0, a.stride_d0, a.d1, \
                             a.stride_d1);                                                                           \
    }                                                                                                                \
    RALLREC_KERNEL(attention_by_key_##SUFFIX, 32 * BackTile<T>::warps);

ATTENTION_BACKWARD(f32_64, float, 64)
ATTENTION_BACKWARD(f32_128, float, 128)
ATTENTION_BACKWARD(bf16_64, bf16, 64)
ATTENTION_BACKWARD(bf16_128, bf16, 128)

#define ATTENTION_DELTA(SUFFIX, T)                                                                                  \
    extern "C" __global__ void __launch_bounds__(128)                                                               \
        attention_delta_##SUFFIX(const T* out, uint32_t stride, const T* by_out, uint32_t by_stride, uint64_t rows, \
                                 uint32_t heads, uint32_t dim, float* delta) {                                      \
        delta_of(out, stride, by_out, by_stride, rows, heads, dim, delta);                                          \
    }                                                                                                               \
    RALLREC_KERNEL(attention_delta_##SUFFIX, 128);

ATTENTION_DELTA(f32, float)
ATTENTION_DELTA(bf16, bf16)
