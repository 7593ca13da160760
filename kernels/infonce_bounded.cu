// InfoNCE (infonce.cu says what it is) where scores have a known bound: cosines, |s| <= 1 / tau,
// with 2 / tau <= 80. Every exponential is then taken against the same bound, e_ij = 2^(s_ij - c)
// with c = log2(e) / tau, and serves both directions:
//
//   r_i = sum_j e_ij      q_j = sum_i e_ij      G_ij = w (e_ij (1 / r_i + 1 / q_j) - 2 [i = j])
//
// One pass for both sums, one exponential a score; no maxima. 10 n^2 d FLOP in all, 2 n^2 d forward
// and 4 n^2 d a side:
//
//   infonce_sums      block (g, c) takes row strips g, g + 64, .. and the c-th of at most 8 ranges of columns. Rows' sums stay in
//                     registers; those of a tile's columns are added over the lanes by halving (14 exchanges for 16 columns),
//                     over the warps in shared memory, over the strips of the block in memory that nobody else writes
//   infonce_reduce    adds the parts: at most 8 a row, 64 a column, so memory is O(n) whatever the device
//   infonce_gradient  a block owns a strip of A and its whole gradient, and walks over all rows of B:
//
//            streamed: 64 rows of B ->
//        i  +-----------+
//       128 | G (regs)  |  x  the same rows of B, read by ldmatrix.trans  ->  32 x D a warp of sum_j G_ij inv_j B_j
//           +-----------+
//
//                     G never leaves registers and B is brought once for both products. Blocks with y = 0 make dX, those with
//                     y = 1 dY with the roles of X and Y exchanged. d(tau) falls out of sum G s
//
//   bf16   D = 64, 128: 32 rows a warp, 64 streamed, two stages of cp.async; an operand from shared memory serves two products
//   bf16   D = 256: 16 rows a warp and 32 streamed, since 128 registers are sums
//   f32    D = 64: 16 rows a warp and 32 streamed in three planes, one stage
//
// Vectors by row (inv, part) go on with zeros to the next multiple of 128 rows: columns beyond the
// end have score and weight 0. All sums run in one order that depends on n alone: the same bits
// every run, on every device.
//
// Bytes: tiles come from L2, n / 128 times n d s a pass; memory sees 3 n d s + 8 n d for gradients
// and 600 n for parts.

#include "common/strip.cuh"
#include "common/warp.cuh"

#define SUMS_ARGS(F) F(const T*, x) F(const T*, y) F(uint64_t, rows) F(uint32_t, dim) F(uint32_t, stride)      \
    F(const float*, inv_x) F(const float*, inv_y) F(float, scale) F(float*, row_parts) F(float*, column_parts) \
    F(float*, diagonal)
ARGUMENTS_OF(SumsArgs, SUMS_ARGS);

#define REDUCE_ARGS(F) F(const float*, row_parts) F(uint32_t, ranges) F(const float*, column_parts)         \
    F(uint32_t, groups) F(uint64_t, n) F(float, scale) F(float*, part_x) F(float*, part_y) F(float*, lse_x) \
    F(float*, lse_y)
ARGUMENTS(ReduceArgs, REDUCE_ARGS);

namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;

template <class T, int D> struct Strip;
template <> struct Strip<bf16, 64> : StripShape<bf16, 64, 2, 64, 2, 2> {};
template <> struct Strip<bf16, 128> : StripShape<bf16, 128, 2, 32, 2, 2> {};
template <> struct Strip<bf16, 256> : StripShape<bf16, 256, 1, 32, 2, 4> {};
template <> struct Strip<float, 64> : StripShape<float, 64, 1, 32, 1, 1> {};

template <class S> struct SumsShared {
    typename S::Shared strips;
    float columns[2][kWarps][S::K];
};

// Whether a tile has pairs (i, i).
template <int kOwn, int K> __device__ __forceinline__ bool meets(uint64_t row0, uint64_t col0) {
    return row0 < col0 + K && col0 < row0 + kOwn;
}

// What becomes of every score of a tile: `use(m, j, c)`.
template <int M, int K, class Use> __device__ __forceinline__ void each(const Use& use) {
#pragma unroll
    for (int j = 0; j < K / 8; j++)
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int c = 0; c < 4; c++) use(m, j, c);
}

// Adds the columns of the lanes that are 4, 8 and 16 apart: each exchange halves what a lane still
// adds for. Afterwards the lane has the sums of columns k .. of those it came with; k is returned.
template <int kLeft, int kApart, int V> __device__ __forceinline__ int add_lanes(float (&v)[V]) {
    const bool upper = threadIdx.x & kApart;
#pragma unroll
    for (int i = 0; i < kLeft; i++) {
        const float give = upper ? v[i] : v[i + kLeft], keep = upper ? v[i + kLeft] : v[i];
        v[i] = keep + __shfl_xor_sync(kAllLanes, give, kApart);
    }
    const int first = upper ? kLeft : 0;
    if constexpr (kApart > 4) return first + add_lanes<kLeft / 2, kApart / 2>(v);
    return first;
}

template <class S, class T>
__device__ __forceinline__ void sums(SumsShared<S>& shared, const RowsOf<T>& a, const RowsOf<T>& b, const float* __restrict__ inv_a,
                                     const float* __restrict__ inv_b, float scale, float* __restrict__ row_parts,
                                     float* __restrict__ column_parts, float* __restrict__ diagonal) {
    constexpr int M = S::M, K = S::K, kOwn = S::own, kValues = K / 4;
    const int warp = threadIdx.x / 32;
    const uint64_t n = a.rows, all = (n + K - 1) / K, share = (all + gridDim.y - 1) / gridDim.y;
    const uint64_t tile0 = min(blockIdx.y * share, all), tiles = min(share, all - tile0);
    bool first = true;
    for (uint64_t row0 = uint64_t(blockIdx.x) * kOwn; row0 < n; row0 += uint64_t(gridDim.x) * kOwn) {
        float mine[M][2], total[M][2] = {};
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int h = 0; h < 2; h++) mine[m][h] = inv_a[row0 + strip_own<M>(m, h)] * scale;
        // The columns of a tile, over the warps; after a barrier behind the tile.
        auto flush = [&](uint64_t tile) {
            const uint64_t j = (tile0 + tile) * K + threadIdx.x;
            if (threadIdx.x >= K || j >= n) return;
            float sum = 0;
#pragma unroll
            for (int w = 0; w < kWarps; w++) sum += shared.columns[tile % 2][w][threadIdx.x];
            float* part = column_parts + blockIdx.x * n + j;
            *part = first ? sum : *part + sum;
        };
        const auto place = [&](uint64_t tile) { return (tile0 + tile) * K; };
        strip_walk<S>(shared.strips, a, row0, b, tiles, place, [&](uint64_t tile, typename S::Scores& s, const typename S::Rows&) {
            if (tile) flush(tile - 1);
            const uint64_t col0 = place(tile);
            const int rows = int(min(n - row0, uint64_t(kOwn))), columns = int(min(n - col0, uint64_t(K)));
            // Scores less their bound.
#pragma unroll
            for (int j = 0; j < K / 8; j++) {
                const float2 inv = *reinterpret_cast<const float2*>(inv_b + col0 + strip_column(j));
#pragma unroll
                for (int m = 0; m < M; m++)
#pragma unroll
                    for (int c = 0; c < 4; c++) s[m][j][c] = fmaf(s[m][j][c], mine[m][c / 2] * (c % 2 ? inv.y : inv.x), -scale);
            }
            if (meets<kOwn, K>(row0, col0))
                each<M, K>([&](int m, int j, int c) {
                    const int i = strip_own<M>(m, c / 2);
                    if (i < rows && row0 + i == col0 + strip_column(j) + c % 2) diagonal[row0 + i] = s[m][j][c] + scale;
                });
            if (rows < kOwn || columns < K)
                each<M, K>([&](int m, int j, int c) {
                    if (strip_own<M>(m, c / 2) >= rows || strip_column(j) + c % 2 >= columns) s[m][j][c] = -INFINITY;
                });
            float by_column[kValues] = {};
            each<M, K>([&](int m, int j, int c) {
                const float e = fast_exp2(s[m][j][c]);
                total[m][c / 2] += e;
                by_column[2 * j + c % 2] += e;
            });
            const int kept = add_lanes<kValues / 2, 16>(by_column);
#pragma unroll
            for (int v = 0; v < kValues / 8; v++)
                shared.columns[tile % 2][warp][strip_column((kept + v) / 2) + (kept + v) % 2] = by_column[v];
        });
        __syncthreads();
        if (tiles) flush(tiles - 1);
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                float sum = total[m][h];
                sum += __shfl_xor_sync(kAllLanes, sum, 1);
                sum += __shfl_xor_sync(kAllLanes, sum, 2);
                const uint64_t i = row0 + strip_own<M>(m, h);
                if (threadIdx.x % 4 == 0 && i < n) row_parts[blockIdx.y * n + i] = sum;
            }
        first = false;
    }
}

// One side's rows and what is known by row.
template <class T> struct Side {
    const T* rows;
    const float* inv;   // 1 / |row|
    const float* part;  // 1 / sum of the row's exponentials
    float* gradient;    // by the normalised row, without 1 / tau
};

template <class S, class T>
__device__ __forceinline__ void gradient(typename S::Shared& shared, const Side<T>& own, const Side<T>& other, uint64_t n, uint32_t dim,
                                         uint32_t stride, float scale, float weight, uint32_t out_stride,
                                         const float* __restrict__ diagonal, float* __restrict__ by_tau) {
    constexpr int M = S::M, D = S::D, K = S::K, kOwn = S::own;
    const uint64_t row0 = uint64_t(blockIdx.x) * kOwn;
    float sum[M][D / 8][4] = {}, tau[M][2] = {}, mine[M][2], part[M][2];
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const uint64_t i = row0 + strip_own<M>(m, h);
            mine[m][h] = own.inv[i] * scale;
            part[m][h] = own.part[i];
        }
    const RowsOf<T> a = {own.rows, n, dim, stride}, b = {other.rows, n, dim, stride};
    const auto place = [](uint64_t tile) { return tile * K; };
    strip_walk<S>(shared, a, row0, b, (n + K - 1) / K, place, [&](uint64_t tile, typename S::Scores& s, const typename S::Rows& rows) {
        const uint64_t col0 = place(tile);
#pragma unroll
        for (int j = 0; j < K / 8; j++) {
            const float2 inv = *reinterpret_cast<const float2*>(other.inv + col0 + strip_column(j));
            const float2 parts = *reinterpret_cast<const float2*>(other.part + col0 + strip_column(j));
#pragma unroll
            for (int m = 0; m < M; m++)
#pragma unroll
                for (int c = 0; c < 4; c++) {
                    const float by_row = c % 2 ? inv.y : inv.x, score = s[m][j][c] * (mine[m][c / 2] * by_row);
                    const float g = fast_exp2(score - scale) * (part[m][c / 2] + (c % 2 ? parts.y : parts.x));
                    tau[m][c / 2] += g * score;
                    s[m][j][c] = g * by_row;
                }
        }
        if (meets<kOwn, K>(row0, col0))
            each<M, K>([&](int m, int j, int c) {
                const uint64_t i = row0 + strip_own<M>(m, c / 2);
                if (i == col0 + strip_column(j) + c % 2) s[m][j][c] -= 2.0f * other.inv[i];
            });
        columns_product(sum, s, rows);
    });
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const uint64_t i = row0 + strip_own<M>(m, h);
            float t = tau[m][h];
            t += __shfl_xor_sync(kAllLanes, t, 1);
            t += __shfl_xor_sync(kAllLanes, t, 2);
            if (i >= n) continue;
            if (by_tau && threadIdx.x % 4 == 0) by_tau[i] = weight * (t - 2.0f * diagonal[i]);
#pragma unroll
            for (int j = 0; j < D / 8; j++)
#pragma unroll
                for (int c = 0; c < 2; c++) {
                    const uint32_t column = strip_column(j) + c;
                    if (column < dim) own.gradient[i * out_stride + column] = weight * sum[m][j][2 * h + c];
                }
        }
}

}  // namespace

// scale = log2(e) / tau in every kernel: scores and log-sums are in base 2.
#define INFONCE_BOUNDED(SUFFIX, T, D)                                                                                       \
    extern "C" __global__ void __launch_bounds__(kThreads, 3)                                                               \
        infonce_sums_##SUFFIX(const __grid_constant__ SumsArgs<T> a) {                                                      \
        DYNAMIC_SHARED(bytes);                                                                                              \
        sums(*reinterpret_cast<SumsShared<Strip<T, D>>*>(bytes), RowsOf<T>{a.x, a.rows, a.dim, a.stride},                   \
             RowsOf<T>{a.y, a.rows, a.dim, a.stride}, a.inv_x, a.inv_y, a.scale, a.row_parts, a.column_parts,               \
             a.diagonal);                                                                                                   \
    }                                                                                                                       \
    RALLREC_KERNEL(infonce_sums_##SUFFIX, kThreads);                                                                        \
    RALLREC_CONSTANT(infonce_own_##SUFFIX, Strip<T, D>::own);                                                               \
    RALLREC_CONSTANT(infonce_sums_shared_##SUFFIX, sizeof(SumsShared<Strip<T, D>>));                                        \
    RALLREC_CONSTANT(infonce_gradient_shared_##SUFFIX, sizeof(Strip<T, D>::Shared));                                        \
    /* One by one: as one struct these arguments take more registers, and f32_64 spills. */                                 \
    extern "C" __global__ void __launch_bounds__(kThreads)                                                                  \
        infonce_gradient_##SUFFIX(const T* x, const T* y, uint64_t rows, uint32_t dim, uint32_t stride, const float* inv_x, \
                                  const float* inv_y, const float* part_x, const float* part_y, float scale, float weight,  \
                                  float* dx, float* dy, uint32_t out_stride, const float* diagonal, float* by_tau) {        \
        DYNAMIC_SHARED(bytes);                                                                                              \
        const bool turned = blockIdx.y;                                                                                     \
        const Side<T> own = {turned ? y : x, turned ? inv_y : inv_x, turned ? part_y : part_x, turned ? dy : dx};           \
        const Side<T> other = {turned ? x : y, turned ? inv_x : inv_y, turned ? part_x : part_y, nullptr};                  \
        gradient<Strip<T, D>>(*reinterpret_cast<Strip<T, D>::Shared*>(bytes), own, other, rows, dim, stride, scale,         \
                              weight, out_stride, diagonal, turned ? nullptr : by_tau);                                     \
    }                                                                                                                       \
    RALLREC_KERNEL(infonce_gradient_##SUFFIX, kThreads);

INFONCE_BOUNDED(f32_64, float, 64)
INFONCE_BOUNDED(bf16_64, bf16, 64)
INFONCE_BOUNDED(bf16_128, bf16, 128)
INFONCE_BOUNDED(bf16_256, bf16, 256)

// part = 1 / sum of a row's parts, and lse = c + log2 of it in base 2; for rows, then for columns.
extern "C" __global__ void __launch_bounds__(kThreads)
    infonce_reduce(const __grid_constant__ ReduceArgs a) {
    const uint64_t i = uint64_t(blockIdx.x) * kThreads + threadIdx.x;
    if (i >= a.n) return;
    float row = 0, column = 0;
    for (uint32_t c = 0; c < a.ranges; c++) row += a.row_parts[c * a.n + i];
    for (uint32_t g = 0; g < a.groups; g++) column += a.column_parts[g * a.n + i];
    a.part_x[i] = 1.0f / row, a.part_y[i] = 1.0f / column;
    a.lse_x[i] = a.scale + log2f(row), a.lse_y[i] = a.scale + log2f(column);
}
RALLREC_KERNEL(infonce_reduce, kThreads);
