// The matrix product under every family that scores rows against rows: a block of 128 threads makes
// a 64 x 64 tile of A B^T (rows of A and B along K) with mma.sync, fp32 accumulation.
//
// Storage. bf16 values are matrix operands as they are. An f32 value is split into three bf16
// planes, x = hi + mid + lo (24 bits of mantissa), and six products hi hi + hi mid + mid hi + hi lo
// + lo hi + mid mid give f32 accuracy on the matrix units, down to 2^-134, where bf16 ends: values
// below 2^-110 lose bits.
//
// Shared memory, two stages so that the next chunk of K arrives while this one is multiplied:
//
//   stage | operand A, B | plane | row 0..63 | 32 values of K + 8 of padding
//
// The row pitch of 80 bytes puts the eight rows that an ldmatrix reads into different banks. bf16
// comes by cp.async (zero fill outside), f32 through registers, where it is split.
//
// A warp owns 16 rows and all 64 columns: acc[n][c] is column 8 n + 2 (lane % 4) + c % 2 of row
// lane / 4 + 8 (c / 2), so that what a row needs from its columns stays within four lanes.
#pragma once

#include "async.cuh"
#include "mma.cuh"

constexpr int kTileRows = 64;
constexpr int kTileDepth = 32;
constexpr int kTilePitch = kTileDepth + 8;
constexpr int kTileThreads = 128;

template <class T> struct Planes;
template <> struct Planes<float> { static constexpr int count = 3; };
template <> struct Planes<bf16> { static constexpr int count = 1; };

template <class T> struct TileStage {
    uint16_t a[Planes<T>::count][kTileRows][kTilePitch];
    uint16_t b[Planes<T>::count][kTileRows][kTilePitch];
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

// Splits into planes; the sum of the planes is x to 24 bits.
template <int P> __device__ __forceinline__ void split(float x, uint16_t (&planes)[P]) {
#pragma unroll
    for (int p = 0; p < P; p++) {
        planes[p] = bf16_bits(x);
        x -= __uint_as_float(uint32_t(planes[p]) << 16);
    }
}

// A 64 x 32 piece of an operand on its way to shared memory.
template <class T> struct Fetch;

template <> struct Fetch<bf16> {
    __device__ __forceinline__ void start(uint16_t (*to)[kTileRows][kTilePitch], const RowsOf<bf16>& x, uint64_t row0, uint32_t k0) {
#pragma unroll
        for (int i = 0; i < kTileRows * kTileDepth / 8 / kTileThreads; i++) {
            const int at = threadIdx.x + i * kTileThreads, row = at / (kTileDepth / 8), k = at % (kTileDepth / 8) * 8;
            const uint32_t column = k0 + k;
            const bool inside = row0 + row < x.rows && column < x.depth;
            const int valid = inside ? 2 * int(min(x.depth - column, 8u)) : 0;
            cp_async16(&to[0][row][k], x.base + (inside ? (row0 + row) * x.stride + column : 0), valid);
        }
    }
    __device__ __forceinline__ void finish(uint16_t (*)[kTileRows][kTilePitch]) {}
};

template <> struct Fetch<float> {
    static constexpr int kVectors = kTileRows * kTileDepth / 4 / kTileThreads;
    Vec<float> held[kVectors];
    __device__ __forceinline__ void start(uint16_t (*)[kTileRows][kTilePitch], const RowsOf<float>& x, uint64_t row0, uint32_t k0) {
#pragma unroll
        for (int i = 0; i < kVectors; i++) {
            const int at = threadIdx.x + i * kTileThreads, row = at / (kTileDepth / 4);
            const uint32_t column = k0 + at % (kTileDepth / 4) * 4;
            held[i].zero();
            if (row0 + row >= x.rows || column >= x.depth) continue;
            held[i].load(x.base + (row0 + row) * x.stride + column);
            if (column + 1 >= x.depth) held[i].raw.y = 0;
            if (column + 2 >= x.depth) held[i].raw.z = 0;
            if (column + 3 >= x.depth) held[i].raw.w = 0;
        }
    }
    __device__ __forceinline__ void finish(uint16_t (*to)[kTileRows][kTilePitch]) {
#pragma unroll
        for (int i = 0; i < kVectors; i++) {
            const int at = threadIdx.x + i * kTileThreads, row = at / (kTileDepth / 4), k = at % (kTileDepth / 4) * 4;
            uint16_t planes[4][3];
#pragma unroll
            for (int v = 0; v < 4; v++) split(held[i].get(v), planes[v]);
#pragma unroll
            for (int p = 0; p < 3; p++)
                *reinterpret_cast<uint2*>(&to[p][row][k]) =
                    make_uint2(planes[0][p] | uint32_t(planes[1][p]) << 16, planes[2][p] | uint32_t(planes[3][p]) << 16);
        }
    }
};

// An operand that is stored the other way: `depth` rows of `rows` values, `stride` apart. It is
// turned on its way to shared memory, so it always goes through registers.
template <class T> struct FetchTurned {
    static constexpr int V = Vec<T>::size, kVectors = kTileRows * kTileDepth / V / kTileThreads;
    Vec<T> held[kVectors];
    uint32_t left[kVectors];  // values of the vector that are inside
    __device__ __forceinline__ void start(uint16_t (*)[kTileRows][kTilePitch], const RowsOf<T>& x, uint64_t row0, uint32_t k0) {
#pragma unroll
        for (int i = 0; i < kVectors; i++) {
            const int at = threadIdx.x + i * kTileThreads, k = at / (kTileRows / V);
            const uint64_t row = row0 + at % (kTileRows / V) * V;
            held[i].zero();
            left[i] = 0;
            if (k0 + k >= x.depth || row >= x.rows) continue;
            held[i].load(x.base + uint64_t(k0 + k) * x.stride + row);
            left[i] = uint32_t(min(x.rows - row, uint64_t(V)));
        }
    }
    __device__ __forceinline__ void finish(uint16_t (*to)[kTileRows][kTilePitch]) {
#pragma unroll
        for (int i = 0; i < kVectors; i++) {
            const int at = threadIdx.x + i * kTileThreads, k = at / (kTileRows / V), row = at % (kTileRows / V) * V;
#pragma unroll
            for (int v = 0; v < V; v++) {
                uint16_t planes[Planes<T>::count];
                split(uint32_t(v) < left[i] ? held[i].get(v) : 0.0f, planes);
#pragma unroll
                for (int p = 0; p < Planes<T>::count; p++) to[p][row + v][k] = planes[p];
            }
        }
    }
};

template <class T, bool kTurned> struct FetchOf { using type = Fetch<T>; };
template <class T> struct FetchOf<T, true> { using type = FetchTurned<T>; };

// acc += the six products (one for bf16) of A fragments and B fragments, smallest first.
template <int P>
__device__ __forceinline__ void mma_planes(float (&acc)[4], const uint32_t (&a)[P][4], const uint32_t (&b)[P][2]) {
    if constexpr (P == 3) {
        mma_bf16(acc, a[1], b[1]);
        mma_bf16(acc, a[2], b[0]);
        mma_bf16(acc, a[0], b[2]);
        mma_bf16(acc, a[1], b[0]);
        mma_bf16(acc, a[0], b[1]);
    }
    mma_bf16(acc, a[0], b[0]);
}

// acc += A[row_a ..][..] B[row_b ..][..]^T over the whole depth. Every thread of the block calls
// it; it begins and ends at a barrier, so shared memory is free before and after. An operand that
// is turned is stored depth x rows.
template <bool kTurnA = false, bool kTurnB = false, class T>
__device__ __forceinline__ void tile_product(float (&acc)[8][4], TileShared<T>& shared, const RowsOf<T>& a, uint64_t row_a,
                                             const RowsOf<T>& b, uint64_t row_b) {
    constexpr int P = Planes<T>::count;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint32_t chunks = (a.depth + kTileDepth - 1) / kTileDepth;
    typename FetchOf<T, kTurnA>::type fetch_a;
    typename FetchOf<T, kTurnB>::type fetch_b;
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
#pragma unroll
        for (int k = 0; k < kTileDepth; k += 16) {
            uint32_t left[P][4];
#pragma unroll
            for (int p = 0; p < P; p++) ldmatrix_x4(left[p], &now.a[p][16 * warp + lane % 16][k + lane / 16 * 8]);
#pragma unroll
            for (int n = 0; n < 8; n += 2) {
                // Two 8-column fragments by one load: matrices (n, k), (n, k + 8), (n + 1, k), (n +
                // 1, k + 8).
                uint32_t right[2][P][2];
#pragma unroll
                for (int p = 0; p < P; p++) {
                    uint32_t four[4];
                    ldmatrix_x4(four, &now.b[p][8 * n + lane / 16 * 8 + lane % 8][k + lane / 8 % 2 * 8]);
                    right[0][p][0] = four[0], right[0][p][1] = four[1];
                    right[1][p][0] = four[2], right[1][p][1] = four[3];
                }
                mma_planes<P>(acc[n], left, right[0]);
                mma_planes<P>(acc[n + 1], left, right[1]);
            }
        }
    }
    __syncthreads();
}

// Row and column within the tile of acc[n][c] of this lane.
__device__ __forceinline__ int tile_row(int c) { return 16 * (threadIdx.x / 32) + threadIdx.x % 32 / 4 + 8 * (c / 2); }
__device__ __forceinline__ int tile_column(int n, int c) { return 8 * n + 2 * (threadIdx.x % 4) + c % 2; }
