// Strips: rows of a matrix in shared memory at their full width D, so that one copy serves two
// products, along D and across it. The inside of attention and of InfoNCE.
//
//   shared memory   own: 16 M rows a warp | streamed: K rows, tile after tile       pitch D + 8 values: eight rows of an ldmatrix
//                                                                                  lie in different banks
//   S = own streamed^T        (rows x K)     rows_product: fragments of S are, as they lie, the left operand of
//   sum += f(S) streamed      (rows x D)     columns_product, which reads the same rows by ldmatrix.trans
//
// A warp owns 16 M rows and all K columns: acc[m][n][c] is row 16 m + lane / 4 + 8 (c / 2), column
// 8 n + 2 (lane % 4) + c % 2 of its part, so that what a row needs stays within four lanes. With M
// = 2 an operand that is loaded serves twice. f32 goes in three bf16 planes (tile.cuh).
#pragma once

#include "tile.cuh"

// How a block of four warps works on strips: 16 M rows of its own a warp, tiles of K streamed rows,
// kStages of them in shared memory, kUnroll steps of the width at once.
template <class T, int kWidth, int M_, int K_, int kStages, int kUnroll> struct StripShape {
    static constexpr int D = kWidth, M = M_, K = K_, P = Planes<T>::count, own = 64 * M_, stages = kStages, unroll = kUnroll;
    using Value = T;
    using Scores = float[M_][K_ / 8][4];
    using Rows = uint16_t[P][K_][kWidth + 8];
    struct Shared {
        uint16_t own[P][64 * M_][kWidth + 8];
        Rows streamed[kStages];
    };
};

// Copies row `row` of a strip, `dim` values at `from` (zeros beyond, and where it is not `real`) in
// planes; `step` threads share a row. bf16 by cp.async, f32 at once. Without kTail `dim` is whole
// 16-byte vectors.
template <class T, int D, bool kTail, int R>
__device__ __forceinline__ void strip_row(uint16_t (*to)[R][D + 8], int row, const T* from, bool real, uint32_t dim, int lane,
                                          int step) {
    constexpr int V = Vec<T>::size;
    for (int i = lane * V; i < D; i += step * V) {
        int valid = real && uint32_t(i) < dim ? V : 0;
        if (kTail && valid) valid = int(min(dim - uint32_t(i), uint32_t(V)));
        if constexpr (sizeof(T) == 2) {
            cp_async16(&to[0][row][i], valid ? from + i : from, 2 * valid);
        } else {
            Vec<T> raw;
            raw.zero();
            if (valid) raw.load(from + i);
            float x[V];
#pragma unroll
            for (int j = 0; j < V; j++) x[j] = !kTail || j < valid ? raw.get(j) : 0.0f;
            store_split(&to[0][row][i], R * (D + 8), x[0], x[1], x[2], x[3]);
        }
    }
}

// The right operands of one step of D, eight streamed rows after eight, times left operands.
template <int M, int N, int P, int K, int W>
__device__ __forceinline__ void rows_step(float (&acc)[M][N][4], const uint32_t (&left)[M][P][4], const uint16_t (&streamed)[P][K][W],
                                          int d) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int n = 0; n < N; n += 2) {
        uint32_t right[2][P][2];
#pragma unroll
        for (int p = 0; p < P; p++) {
            uint32_t four[4];
            ldmatrix_x4(four, &streamed[p][8 * n + lane / 16 * 8 + lane % 8][d + lane / 8 % 2 * 8]);
            right[0][p][0] = four[0], right[0][p][1] = four[1];
            right[1][p][0] = four[2], right[1][p][1] = four[3];
        }
#pragma unroll
        for (int m = 0; m < M; m++) {
            mma_planes<P>(acc[m][n], left[m], right[0]);
            mma_planes<P>(acc[m][n + 1], left[m], right[1]);
        }
    }
}

// The left operands of one step of D.
template <int M, int P, int R, int W>
__device__ __forceinline__ void rows_left(uint32_t (&left)[M][P][4], const uint16_t (&own)[P][R][W], int d) {
    const int lane = threadIdx.x % 32, row = 16 * M * (threadIdx.x / 32) + lane % 16;
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int p = 0; p < P; p++) ldmatrix_x4(left[m][p], &own[p][row + 16 * m][d + lane / 16 * 8]);
}

// acc += the warp's own rows times the streamed rows (both along D), kUnroll steps of D unrolled:
// where registers are short, the whole loop lets the compiler load operands so far ahead that it
// spills.
template <int kUnroll, int M, int N, int P, int R, int K, int W>
__device__ __forceinline__ void rows_product(float (&acc)[M][N][4], const uint16_t (&own)[P][R][W],
                                             const uint16_t (&streamed)[P][K][W]) {
    static_assert(N == K / 8, "a column of accumulators for every eight streamed rows");
    constexpr int D = W - 8;
#pragma unroll kUnroll
    for (int d = 0; d < D; d += 16) {
        uint32_t left[M][P][4];
        rows_left(left, own, d);
        rows_step(acc, left, streamed, d);
    }
}

// The same with the warp's own rows as operands in registers, for rows that stay while many tiles
// stream past.
template <int D, int P> struct HeldRows {
    uint32_t steps[D / 16][1][P][4];
    template <int R, int W> __device__ __forceinline__ void hold(const uint16_t (&own)[P][R][W]) {
        static_assert(W == D + 8, "the rows' whole width");
#pragma unroll
        for (int i = 0; i < D / 16; i++) rows_left(steps[i], own, 16 * i);
    }
};
template <int N, int P, int K, int W>
__device__ __forceinline__ void rows_product(float (&acc)[N][4], const HeldRows<W - 8, P>& own, const uint16_t (&streamed)[P][K][W]) {
    static_assert(N == K / 8, "a column of accumulators for every eight streamed rows");
#pragma unroll
    for (int i = 0; i < (W - 8) / 16; i++) rows_step(reinterpret_cast<float(&)[1][N][4]>(acc), own.steps[i], streamed, 16 * i);
}

// sum += factors (of the warp's rows and K streamed ones, as accumulators lie) times the streamed
// rows (K x D).
template <bool kPromote = true, int M, int N, int F, int P, int K, int W>
__device__ __forceinline__ void columns_product(float (&sum)[M][N][4], const float (&factors)[M][F][4],
                                                const uint16_t (&streamed)[P][K][W]) {
    static_assert(N == (W - 8) / 8 && F == K / 8, "accumulators for the whole width");
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int j = 0; j < K; j += 16) {
        uint32_t left[M][P][4];
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float(&from)[4] = factors[m][j / 8 + i / 2];
                uint32_t planes[P];
                split_pair(from[2 * (i % 2)], from[2 * (i % 2) + 1], planes);
#pragma unroll
                for (int p = 0; p < P; p++) left[m][p][i] = planes[p];
            }
#pragma unroll
        for (int n = 0; n < N; n += 2) {
            uint32_t right[2][P][2];
#pragma unroll
            for (int p = 0; p < P; p++) {
                uint32_t four[4];
                ldmatrix_x4_trans(four, &streamed[p][j + lane % 16][8 * n + lane / 16 * 8]);
                right[0][p][0] = four[0], right[0][p][1] = four[1];
                right[1][p][0] = four[2], right[1][p][1] = four[3];
            }
#pragma unroll
            for (int m = 0; m < M; m++) {
                mma_planes<P, kPromote>(sum[m][n], left[m], right[0]);
                mma_planes<P, kPromote>(sum[m][n + 1], left[m], right[1]);
            }
        }
    }
}

// Row of acc[m][.][2 h ..] within the block's strip, and first column of acc[.][n] of this lane
// within the tile.
template <int M> __device__ __forceinline__ int strip_own(int m, int h) {
    return 16 * (M * (threadIdx.x / 32) + m) + threadIdx.x % 32 / 4 + 8 * h;
}
__device__ __forceinline__ int strip_column(int n) { return 8 * n + 2 * (threadIdx.x % 4); }

// Walks over `tiles` tiles of B with rows `row0 ..` of A: tile number t is the K rows from
// `place(t)` on; `use(t, scores, rows of B)` gets each. Every thread of the block (128) calls it,
// and is past a barrier between two uses.
template <class S, class T, class Place, class Use>
__device__ __forceinline__ void strip_walk(typename S::Shared& shared, const RowsOf<T>& a, uint64_t row0, const RowsOf<T>& b,
                                           uint64_t tiles, const Place& place, const Use& use) {
    constexpr int kSharers = 8, kStep = 128 / kSharers;
    const int sharer = threadIdx.x % kSharers;
    auto fetch = [&](uint64_t tile) {
        const uint64_t first = place(tile);
#pragma unroll 1
        for (int row = threadIdx.x / kSharers; row < S::K; row += kStep) {
            const bool inside = first + row < b.rows;
            strip_row<T, S::D, true>(shared.streamed[tile % S::stages], row, inside ? b.base + (first + row) * b.stride : b.base, inside,
                                     b.depth, sharer, kSharers);
        }
    };
    __syncthreads();  // nobody reads the strip before this one
#pragma unroll 1
    for (int row = threadIdx.x / kSharers; row < S::own; row += kStep) {
        const bool inside = row0 + row < a.rows;
        strip_row<T, S::D, true>(shared.own, row, inside ? a.base + (row0 + row) * a.stride : a.base, inside, a.depth, sharer, kSharers);
    }
    if (S::stages > 1 && tiles) fetch(0);
    cp_async_commit();
    for (uint64_t tile = 0; tile < tiles; tile++) {
        if constexpr (S::stages > 1) {
            cp_async_wait(0);
            __syncthreads();  // this tile is there for all, and nobody reads the other stage
            if (tile + 1 < tiles) fetch(tile + 1);
            cp_async_commit();
        } else {
            __syncthreads();
            fetch(tile);
            __syncthreads();
        }
        typename S::Scores s = {};
        rows_product<S::unroll>(s, shared.own, shared.streamed[tile % S::stages]);
        use(tile, s, shared.streamed[tile % S::stages]);
    }
    cp_async_wait(0);
}

// One row of matrices a warp (M = 1).
template <int kUnroll, int N, int P, int R, int K, int W>
__device__ __forceinline__ void rows_product(float (&acc)[N][4], const uint16_t (&own)[P][R][W], const uint16_t (&streamed)[P][K][W]) {
    rows_product<kUnroll>(reinterpret_cast<float(&)[1][N][4]>(acc), own, streamed);
}
template <bool kPromote = true, int N, int F, int P, int K, int W>
__device__ __forceinline__ void columns_product(float (&sum)[N][4], const float (&factors)[F][4], const uint16_t (&streamed)[P][K][W]) {
    columns_product<kPromote>(reinterpret_cast<float(&)[1][N][4]>(sum), reinterpret_cast<const float(&)[1][F][4]>(factors), streamed);
}
