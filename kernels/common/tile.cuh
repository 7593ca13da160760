// The matrix product under every family that scores rows against rows: a block of 128 threads makes
// a 64 x 64 tile of A B^T (rows of A and B along K) with mma.sync, fp32 accumulation.
//
// Storage. bf16 values are matrix operands as they are. An f32 value is split into three bf16
// planes, x = hi + mid + lo (24 bits of mantissa), and six products hi hi + hi mid + mid hi + hi lo
// + lo hi + mid mid give f32 accuracy on the matrix units, down to 2^-134, where bf16 ends: values
// below 2^-110 lose bits.
//
// Accuracy. The matrix units align their addends to the largest and cut off what is below: a sum of
// f32 that stays in their accumulator loses a bit at every product, always in one direction. So the
// six products of 16 of K go into a sum that begins at zero, and one f32 addition, which rounds to
// nearest, brings it to the accumulator.
//
// Shared memory, two stages so that the next chunk of K arrives while this one is multiplied:
//
//   stage | operand A, B | plane | 64 rows of 32 values of K, or 32 of K with 64 rows' values
//
// An operand lies as it is stored: along K (rows of 64 bytes), or turned, along its rows (128 bytes
// for each of K), which ldmatrix.trans turns on the way to registers. Sixteen bytes of a row are a
// chunk, and chunk c of row r lies at c ^ (r / 2 % 4), turned at c ^ (r % 8). So the eight rows of
// an ldmatrix are in different banks, and so is what 16 lanes store at once. bf16 comes by cp.async
// (zero fill outside), f32 through registers, where it is split.
//
// A warp owns 16 rows and all 64 columns: acc[n][c] is column 8 n + 2 (lane % 4) + c % 2 of row
// lane / 4 + 8 (c / 2), so that what a row needs from its columns stays within four lanes.
#pragma once

#include "async.cuh"
#include "mma.cuh"

constexpr int kTileRows = 64;
constexpr int kTileDepth = 32;
constexpr int kTileThreads = 128;

template <class T> struct Planes;
template <> struct Planes<float> { static constexpr int count = 3; };
template <> struct Planes<bf16> { static constexpr int count = 1; };

using TilePlane = uint16_t[kTileRows * kTileDepth];

// Where the value of `row` and `k` lies in a plane.
template <bool kTurned> __device__ __forceinline__ constexpr int tile_at(int row, int k) {
    return kTurned ? k * kTileRows + (row / 8 ^ k % 8) * 8 + row % 8 : row * kTileDepth + (k / 8 ^ row / 2 % 4) * 8 + k % 8;
}

template <class T> struct TileStage {
    TilePlane a[Planes<T>::count];
    TilePlane b[Planes<T>::count];
};
template <class T> struct TileShared {
    TileStage<T> stage[2];
};

// Rows in memory: `rows` rows of `depth` values, `stride` (a multiple of 8) apart, 16-byte aligned;
// what stands between `depth` and `stride` is not looked at.
template <class T> struct RowsOf {
    const T* base;
    uint64_t rows;
    uint32_t depth, stride;
};

// Splits two values into planes, each a register with the first in its low half; the sum of a
// value's planes is the value to 24 bits. In pairs, because the conversion of a single value is a
// slow instruction.
template <int P> __device__ __forceinline__ void split_pair(float low, float high, uint32_t (&planes)[P]) {
#pragma unroll
    for (int p = 0; p < P; p++) {
        planes[p] = bf16_pair(low, high);
        low -= __uint_as_float(planes[p] << 16);
        high -= __uint_as_float(planes[p] & 0xffff0000u);
    }
}

// Four values that follow each other, split, to the same place of three planes that lie `apart`
// values from each other.
__device__ __forceinline__ void store_split(uint16_t* to, int apart, float x, float y, float z, float w) {
    uint32_t first[3], second[3];
    split_pair(x, y, first);
    split_pair(z, w, second);
#pragma unroll
    for (int p = 0; p < 3; p++) *reinterpret_cast<uint2*>(to + p * apart) = make_uint2(first[p], second[p]);
}

// A piece of an operand, 64 rows by 32 of K, on its way to shared memory. The operand is stored
// rows x depth, or, turned, depth x rows: then `x.rows` is still the number of rows of the product.
template <class T, bool kTurned> struct Fetch;

template <bool kTurned> struct Fetch<bf16, kTurned> {
    __device__ __forceinline__ void start(TilePlane* to, const RowsOf<bf16>& x, uint64_t row0, uint32_t k0) {
        // Chunks of eight values along a row in memory.
        constexpr int kChunks = (kTurned ? kTileRows : kTileDepth) / 8;
#pragma unroll
        for (int i = 0; i < kTileRows * kTileDepth / 8 / kTileThreads; i++) {
            const int at = threadIdx.x + i * kTileThreads, line = at / kChunks, first = at % kChunks * 8;
            const uint64_t row = row0 + (kTurned ? first : line);
            const uint32_t k = k0 + (kTurned ? line : first);
            const bool inside = row < x.rows && k < x.depth;
            const uint64_t left = kTurned ? x.rows - row : x.depth - k;
            const int valid = inside ? 2 * int(min(left, uint64_t(8))) : 0;
            const uint64_t from = kTurned ? uint64_t(k) * x.stride + row : row * x.stride + k;
            cp_async16(&to[0][kTurned ? tile_at<true>(first, line) : tile_at<false>(line, first)], x.base + (inside ? from : 0), valid);
        }
    }
    __device__ __forceinline__ void finish(TilePlane*) {}
};

template <bool kTurned> struct Fetch<float, kTurned> {
    static constexpr int kVectors = kTileRows * kTileDepth / 4 / kTileThreads, kLine = (kTurned ? kTileRows : kTileDepth) / 4;
    Vec<float> held[kVectors];
    __device__ __forceinline__ void start(TilePlane*, const RowsOf<float>& x, uint64_t row0, uint32_t k0) {
#pragma unroll
        for (int i = 0; i < kVectors; i++) {
            const int at = threadIdx.x + i * kTileThreads, line = at / kLine, first = at % kLine * 4;
            const uint64_t row = row0 + (kTurned ? first : line);
            const uint32_t k = k0 + (kTurned ? line : first);
            held[i].zero();
            if (row >= x.rows || k >= x.depth) continue;
            held[i].load(x.base + (kTurned ? uint64_t(k) * x.stride + row : row * x.stride + k));
            const uint64_t left = kTurned ? x.rows - row : x.depth - k;
            if (left < 2) held[i].raw.y = 0;
            if (left < 3) held[i].raw.z = 0;
            if (left < 4) held[i].raw.w = 0;
        }
    }
    __device__ __forceinline__ void finish(TilePlane* to) {
#pragma unroll
        for (int i = 0; i < kVectors; i++) {
            const int at = threadIdx.x + i * kTileThreads, line = at / kLine, first = at % kLine * 4;
            store_split(&to[0][kTurned ? tile_at<true>(first, line) : tile_at<false>(line, first)], kTileRows * kTileDepth,
                        held[i].get(0), held[i].get(1), held[i].get(2), held[i].get(3));
        }
    }
};

// The left operand of rows `row ..` and of k .. k + 15, and the right operands of rows `row ..` (8)
// and of the next eight.
template <bool kTurned> __device__ __forceinline__ void tile_left(uint32_t (&left)[4], const TilePlane& plane, int row, int k) {
    const int lane = threadIdx.x % 32;
    if constexpr (kTurned)
        ldmatrix_x4_trans(left, &plane[tile_at<true>(row + lane / 8 % 2 * 8, k + lane / 16 * 8 + lane % 8)]);
    else
        ldmatrix_x4(left, &plane[tile_at<false>(row + lane % 16, k + lane / 16 * 8)]);
}
template <bool kTurned>
__device__ __forceinline__ void tile_right(uint32_t (&first)[2], uint32_t (&second)[2], const TilePlane& plane, int row, int k) {
    const int lane = threadIdx.x % 32;
    uint32_t four[4];
    if constexpr (kTurned)
        ldmatrix_x4_trans(four, &plane[tile_at<true>(row + lane / 16 * 8, k + lane / 8 % 2 * 8 + lane % 8)]);
    else
        ldmatrix_x4(four, &plane[tile_at<false>(row + lane / 16 * 8 + lane % 8, k + lane / 8 % 2 * 8)]);
    first[0] = four[0], first[1] = four[1];
    second[0] = four[2], second[1] = four[3];
}

// acc += A B of 16 of K: of bf16 one product; of planes six, smallest first, summed by themselves
// and then added, which rounds; without kPromote straight to `acc`, where no registers are left for
// a sum beside it.
template <int P, bool kPromote = true>
__device__ __forceinline__ void mma_planes(float (&acc)[4], const uint32_t (&a)[P][4], const uint32_t (&b)[P][2]) {
    if constexpr (P == 1) {
        mma_bf16(acc, a[0], b[0]);
    } else {
        float sum[4];
        float(&to)[4] = kPromote ? sum : acc;
        if constexpr (kPromote)
            mma_bf16_fresh(to, a[1], b[1]);
        else
            mma_bf16(to, a[1], b[1]);
        mma_bf16(to, a[2], b[0]);
        mma_bf16(to, a[0], b[2]);
        mma_bf16(to, a[1], b[0]);
        mma_bf16(to, a[0], b[1]);
        mma_bf16(to, a[0], b[0]);
        if constexpr (kPromote)
#pragma unroll
            for (int c = 0; c < 4; c++) acc[c] += sum[c];
    }
}

// acc += A[row_a ..][..] B[row_b ..][..]^T over the whole depth. Every thread of the block calls
// it; it begins and ends at a barrier, so shared memory is free before and after. An operand that
// is turned is stored depth x rows.
template <bool kTurnA = false, bool kTurnB = false, bool kPromote = true, class T>
__device__ __forceinline__ void tile_product(float (&acc)[8][4], TileShared<T>& shared, const RowsOf<T>& a, uint64_t row_a,
                                             const RowsOf<T>& b, uint64_t row_b) {
    constexpr int P = Planes<T>::count;
    const int warp = threadIdx.x / 32;
    const uint32_t chunks = (a.depth + kTileDepth - 1) / kTileDepth;
    Fetch<T, kTurnA> fetch_a;
    Fetch<T, kTurnB> fetch_b;
    __syncthreads();
    if (chunks) {
        fetch_a.start(shared.stage[0].a, a, row_a, 0);
        fetch_b.start(shared.stage[0].b, b, row_b, 0);
        cp_async_commit();
    }
    for (uint32_t chunk = 0; chunk < chunks; chunk++) {
        TileStage<T>& now = shared.stage[chunk % 2];
        fetch_a.finish(now.a);
        fetch_b.finish(now.b);
        cp_async_wait(0);
        // This chunk is there for all; and nobody still multiplies from the other stage.
        __syncthreads();
        if (chunk + 1 < chunks) {
            TileStage<T>& next = shared.stage[(chunk + 1) % 2];
            fetch_a.start(next.a, a, row_a, (chunk + 1) * kTileDepth);
            fetch_b.start(next.b, b, row_b, (chunk + 1) * kTileDepth);
            cp_async_commit();
        }
#pragma unroll(P == 3 ? 1 : 2)
        for (int k = 0; k < kTileDepth; k += 16) {
            uint32_t left[P][4];
#pragma unroll
            for (int p = 0; p < P; p++) tile_left<kTurnA>(left[p], now.a[p], 16 * warp, k);
#pragma unroll
            for (int n = 0; n < 8; n += 2) {
                uint32_t right[2][P][2];
#pragma unroll
                for (int p = 0; p < P; p++) tile_right<kTurnB>(right[0][p], right[1][p], now.b[p], 8 * n, k);
                mma_planes<P, kPromote>(acc[n], left, right[0]);
                mma_planes<P, kPromote>(acc[n + 1], left, right[1]);
            }
        }
    }
    __syncthreads();
}

// Row and column within the tile of acc[n][c] of this lane.
__device__ __forceinline__ int tile_row(int c) { return 16 * (threadIdx.x / 32) + threadIdx.x % 32 / 4 + 8 * (c / 2); }
__device__ __forceinline__ int tile_column(int n, int c) { return 8 * n + 2 * (threadIdx.x % 4) + c % 2; }
