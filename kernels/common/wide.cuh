// The large matrix tile, bf16: a block of 256 threads makes 128 x 128 of A B^T (or A B), fp32
// accumulation, K in steps of 32 through a ring of four stages that cp.async fills three steps
// ahead.
//
// K may be made of two pieces, A = [A0 | A1] and B = [B0 ; B1]: an adapter's product is some more
// steps of the same loop.
//
// A stage of shared memory (8 KB + 8 KB); a chunk is 16 bytes, 8 values:
//
//   A, and B along K:   128 rows x 4 chunks,  chunk c of row r stands at c ^ (r / 2 % 4)   eight rows of an ldmatrix: eight
//   B turned:           32 rows of K x 16 chunks, chunk c of row k stands at c ^ (k % 8)   different groups of four banks
//
// Warp w owns rows 64 (w / 4) .. + 64 and columns 32 (w % 4) .. + 32: four by four products of 16 x
// 8 for each 16 of K, from 4 + 2 ldmatrix. acc[m][n][c] is row 64 (w / 4) + 16 m + lane / 4 + 8 (c
// / 2), column 32 (w % 4) + 8 n + 2 (lane % 4) + c % 2.
#pragma once

#include "async.cuh"
#include "mma.cuh"

constexpr int kWideRows = 128;
constexpr int kWideDepth = 32;
constexpr int kWideStages = 4;
constexpr int kWideThreads = 256;

struct WideStage {
    uint16_t a[kWideRows * kWideDepth];
    uint16_t b[kWideRows * kWideDepth];
};

// One piece of K. Rows begin at 16 bytes; `b` is `columns` rows along K, or, turned, `depth` rows
// of `columns` values.
struct WidePiece {
    const bf16* a;
    const bf16* b;
    uint32_t stride_a, stride_b, depth;
};

__device__ __forceinline__ int wide_at(int row, int chunk) { return row * kWideDepth + ((chunk ^ (row / 2 % 4)) * 8); }
__device__ __forceinline__ int wide_at_turned(int k, int chunk) { return k * kWideRows + ((chunk ^ (k % 8)) * 8); }

// Values of the chunk at `from` that lie before `end`.
__device__ __forceinline__ int wide_valid(uint64_t from, uint64_t end) {
    return from < end ? 2 * int(min(end - from, uint64_t(8))) : 0;
}

// Starts the copies of step `step` of a piece. Rows of A from `row0` and columns of B from `col0`
// on; zeros beyond the ends.
template <bool kTurned>
__device__ __forceinline__ void wide_fetch(WideStage& to, const WidePiece& p, uint32_t step, uint64_t row0, uint64_t rows,
                                           uint64_t col0, uint64_t columns) {
    const uint32_t k0 = step * kWideDepth;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int at = threadIdx.x + i * kWideThreads, row = at / 4, chunk = at % 4;
        const uint64_t k = k0 + chunk * 8;
        const int valid = row0 + row < rows ? wide_valid(k, p.depth) : 0;
        cp_async16(&to.a[wide_at(row, chunk)], p.a + (valid ? (row0 + row) * p.stride_a + k : 0), valid);
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int at = threadIdx.x + i * kWideThreads;
        if constexpr (kTurned) {
            const int k = at / 16, chunk = at % 16;
            const uint64_t column = col0 + chunk * 8;
            const int valid = k0 + k < p.depth ? wide_valid(column, columns) : 0;
            cp_async16(&to.b[wide_at_turned(k, chunk)], p.b + (valid ? uint64_t(k0 + k) * p.stride_b + column : 0), valid);
        } else {
            const int row = at / 4, chunk = at % 4;
            const uint64_t k = k0 + chunk * 8;
            const int valid = col0 + row < columns ? wide_valid(k, p.depth) : 0;
            cp_async16(&to.b[wide_at(row, chunk)], p.b + (valid ? (col0 + row) * p.stride_b + k : 0), valid);
        }
    }
}

// acc += the tile's product over both pieces (the second may have depth 0). `ring` is kWideStages
// stages; every thread of the block calls it; shared memory is free when it returns.
template <bool kTurned>
__device__ __forceinline__ void wide_product(float (&acc)[4][4][4], WideStage* ring, const WidePiece& first,
                                             const WidePiece& second, uint64_t row0, uint64_t rows, uint64_t col0,
                                             uint64_t columns) {
    const uint32_t steps0 = (first.depth + kWideDepth - 1) / kWideDepth;
    const uint32_t steps = steps0 + (second.depth + kWideDepth - 1) / kWideDepth;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, row_w = 64 * (warp / 4), col_w = 32 * (warp % 4);
    auto fetch = [&](uint32_t step) {
        if (step < steps) {
            const bool one = step < steps0;
            // Chosen value by value: a choice between addresses would put both pieces on the stack.
            const WidePiece piece = {one ? first.a : second.a, one ? first.b : second.b, one ? first.stride_a : second.stride_a,
                                     one ? first.stride_b : second.stride_b, one ? first.depth : second.depth};
            wide_fetch<kTurned>(ring[step % kWideStages], piece, one ? step : step - steps0, row0, rows, col0, columns);
        }
        cp_async_commit();  // also when empty: a step is a group, always
    };
    for (uint32_t step = 0; step < kWideStages - 1; step++) fetch(step);
    for (uint32_t step = 0; step < steps; step++) {
        cp_async_wait(kWideStages - 2);
        // This step has landed for all, and nobody reads the stage that is filled next.
        __syncthreads();
        fetch(step + kWideStages - 1);
        const WideStage& now = ring[step % kWideStages];
#pragma unroll
        for (int k = 0; k < kWideDepth; k += 16) {
            uint32_t a[4][4], b[4][2];
#pragma unroll
            for (int m = 0; m < 4; m++) ldmatrix_x4(a[m], &now.a[wide_at(row_w + 16 * m + lane % 16, k / 8 + lane / 16)]);
#pragma unroll
            for (int n = 0; n < 4; n += 2) {
                uint32_t four[4];
                if constexpr (kTurned)
                    ldmatrix_x4_trans(four, &now.b[wide_at_turned(k + lane % 16, col_w / 8 + n + lane / 16)]);
                else
                    ldmatrix_x4(four, &now.b[wide_at(col_w + 8 * n + lane / 16 * 8 + lane % 8, k / 8 + lane / 8 % 2)]);
                b[n][0] = four[0], b[n][1] = four[1];
                b[n + 1][0] = four[2], b[n + 1][1] = four[3];
            }
#pragma unroll
            for (int m = 0; m < 4; m++)
#pragma unroll
                for (int n = 0; n < 4; n++) mma_bf16(acc[m][n], a[m], b[n]);
        }
    }
    cp_async_wait(0);
    __syncthreads();
}

__device__ __forceinline__ int wide_row(int m, int c) {
    return 64 * (threadIdx.x / 128) + 16 * m + threadIdx.x % 32 / 4 + 8 * (c / 2);
}
__device__ __forceinline__ int wide_column(int n) { return 32 * (threadIdx.x / 32 % 4) + 8 * n + 2 * (threadIdx.x % 4); }
