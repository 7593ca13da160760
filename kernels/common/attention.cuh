// Softmax attention of a tile of query rows over two runs of keys: the inside of attention.cu and
// attention_decode.cu.
//
// A block of W warps owns 16 W rows; each warp 16 of them, so that a row's softmax stays within
// four lanes. Keys and values come in tiles of K rows:
//
//   shared memory | Q: 16 W rows x D | stage: keys K x D | values K x D | ...        pitch D + 8 values: eight rows of an
//                                                                                   ldmatrix lie in different banks
//   bf16   W = 4, K = 64, two stages: the next tile arrives by cp.async while this one is used
//   f32    W = 2, K = 32, one stage: three bf16 planes of everything, P too, six products for f32 accuracy
//
//   S = Q K^T  (rows x keys)     fragments of S are, as they lie, the left operand of the next product:
//   O += P V   (rows x D)        columns 8 j .. of S are its k-slots; V is read by ldmatrix.trans
//
// In bf16 a warp keeps its rows of Q as operands in registers. Most tiles are seen whole by every
// row: only those at an edge, and all under a window, are compared key by key.
//
// Online softmax in base 2. Rows that saw nothing yet have maximum -inf; the exponent's base is
// then 0, so that neither -inf - -inf nor 0 / 0 can arise.
#pragma once

#include "strip.cuh"

// Query rows of one tile and what they see.
struct AttentionWork {
    uint64_t row;       // first query row
    uint32_t rows;      // rows of the tile; with `pack` heads each
    uint32_t pack;      // query heads that are rows of the tile: 1, or all of a kv head
    uint64_t first[2];  // first key row of each run
    uint32_t len[2];    // keys of each run
    uint32_t visible;   // keys of run 1 that the first query row sees (one more for each next row); ~0: all
    uint32_t slot;      // of the partial result
};

struct AttentionInput {
    uint32_t heads, kv_heads, dim;
    uint32_t stride_q, stride_k, stride_v;
    float scale;      // log2(e) / sqrt(dim)
    uint32_t window;  // a row sees no more than so many of its last keys; ~0: all of them
};

// The first key that a row sees which is behind `seen` keys, its own included.
__device__ __forceinline__ uint32_t first_in_window(uint64_t seen, uint32_t window) {
    return window == ~0u || seen <= window ? 0 : uint32_t(seen - window);
}

template <class T> struct AttentionTile;
template <> struct AttentionTile<bf16> { static constexpr int warps = 4, keys = 64, stages = 2; };
template <> struct AttentionTile<float> { static constexpr int warps = 2, keys = 32, stages = 1; };

template <class T, int D> struct AttentionShared {
    static constexpr int P = Planes<T>::count, kPitch = D + 8;
    using Tile = AttentionTile<T>;
    uint16_t q[P][16 * Tile::warps][kPitch];
    uint16_t k[Tile::stages][P][Tile::keys][kPitch];
    uint16_t v[Tile::stages][P][Tile::keys][kPitch];
};

// What a lane knows of its rows g and g + 8: maxima and sums (base 2), and the sums of values, not
// yet divided.
template <int D> struct AttentionState {
    float top[2], total[2];
    float out[D / 8][4];
};

// Turns a tile's scores into weights, and brings the state to the maximum that they have. Of row h
// keys `from[h]` up to `end[h]` are seen; `key` is that of s[0][0]. Without kMasked all are.
template <bool kMasked, int D, int N>
__device__ __forceinline__ void weigh(AttentionState<D>& state, float (&s)[N][4], float scale, uint32_t key, const uint32_t (&from)[2],
                                      const uint32_t (&end)[2]) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float top = state.top[h];
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int c = 2 * h; c < 2 * h + 2; c++) {
                s[n][c] *= scale;
                if constexpr (kMasked) {
                    const uint32_t at = key + 8 * n + c % 2;
                    if (at >= end[h] || at < from[h]) s[n][c] = -INFINITY;
                }
                top = fmaxf(top, s[n][c]);
            }
        top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, 1));
        top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, 2));
        const float base = top == -INFINITY ? 0.0f : top;
        const float keep = fast_exp2(state.top[h] - base);
        float sum = 0;
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int c = 2 * h; c < 2 * h + 2; c++) {
                s[n][c] = fast_exp2(s[n][c] - base);
                sum += s[n][c];
            }
        state.total[h] = state.total[h] * keep + sum;
        state.top[h] = top;
#pragma unroll
        for (int n = 0; n < D / 8; n++) state.out[n][2 * h] *= keep, state.out[n][2 * h + 1] *= keep;
    }
}

// Runs a tile of `work` for query head `head` (its first, when heads are packed). Every thread of
// the block calls it. `first_of(i)` is the first key, counted through both runs, that query row i
// of the work sees, and `least` the least of all rows. Without a window both are 0 and change no
// bit.
template <class T, int D, class First>
__device__ __forceinline__ void attend(AttentionShared<T, D>& shared, const AttentionWork& work, uint32_t head,
                                       const AttentionInput& in, const T* q, const T* keys, const T* values,
                                       AttentionState<D>& state, uint32_t least, First first_of) {
    using Tile = AttentionTile<T>;
    constexpr int K = Tile::keys, kRows = 16 * Tile::warps, kThreads = 32 * Tile::warps;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
    const uint32_t kv = head / (in.heads / in.kv_heads);
    // Of run 1 nothing is read that the last row does not see.
    const uint32_t last_row = (work.rows - 1) / work.pack;
    const uint32_t reach = work.visible == ~0u ? work.len[1] : uint32_t(min(uint64_t(work.len[1]), uint64_t(work.visible) + last_row));
    const uint32_t tiles0 = (work.len[0] + K - 1) / K, tiles = tiles0 + (reach + K - 1) / K;
    // Tiles before the window of every row are not read either.
    const uint32_t begin = least < work.len[0] ? least / K : min(tiles, tiles0 + (least - work.len[0]) / K);
    constexpr int kSharers = 8;
    auto fetch = [&](uint32_t tile) {
        const int run = tile >= tiles0, stage = tile % Tile::stages;
        const uint32_t first = (run ? tile - tiles0 : tile) * K, end = run ? reach : work.len[0];
        for (int row = threadIdx.x / kSharers; row < K; row += kThreads / kSharers) {
            const bool inside = first + row < end;
            const uint64_t at = (run ? work.first[1] : work.first[0]) + first + row;
            const T* k = inside ? keys + at * in.stride_k + uint64_t(kv) * in.dim : keys;
            const T* v = inside ? values + at * in.stride_v + uint64_t(kv) * in.dim : values;
            strip_row<T, D, false>(shared.k[stage], row, k, inside, in.dim, threadIdx.x % kSharers, kSharers);
            strip_row<T, D, false>(shared.v[stage], row, v, inside, in.dim, threadIdx.x % kSharers, kSharers);
        }
    };
    for (int row = threadIdx.x / kSharers; row < kRows; row += kThreads / kSharers) {
        const bool inside = uint32_t(row) < work.rows;
        const uint64_t at = work.row + row / work.pack;
        const T* from = inside ? q + at * in.stride_q + uint64_t(head + row % work.pack) * in.dim : q;
        strip_row<T, D, false>(shared.q, row, from, inside, in.dim, threadIdx.x % kSharers, kSharers);
    }
    if (Tile::stages > 1 && begin < tiles) fetch(begin);
    cp_async_commit();
#pragma unroll
    for (int h = 0; h < 2; h++) state.top[h] = -INFINITY, state.total[h] = 0;
#pragma unroll
    for (int n = 0; n < D / 8; n++)
#pragma unroll
        for (int c = 0; c < 4; c++) state.out[n][c] = 0;
    constexpr bool kHeld = Planes<T>::count == 1;
    HeldRows<D, Planes<T>::count> held;
    if constexpr (kHeld) {
        cp_async_wait(0);
        __syncthreads();
        held.hold(shared.q);
    }
    // Keys that every row sees: of run 1 those of the first row.
    const uint32_t seen_by_all = min(reach, work.visible);
    for (uint32_t tile = begin; tile < tiles; tile++) {
        const int stage = tile % Tile::stages;
        if constexpr (Tile::stages > 1) {
            cp_async_wait(0);
            __syncthreads();  // this tile is there for all, and nobody reads the other stage
            if (tile + 1 < tiles) fetch(tile + 1);
            cp_async_commit();
        } else {
            __syncthreads();
            fetch(tile);
            __syncthreads();
        }
        float s[K / 8][4] = {};
        if constexpr (kHeld)
            rows_product(s, held, shared.k[stage]);
        else
            rows_product<D / 16>(s, shared.q, shared.k[stage]);
        const int run = tile >= tiles0;
        const uint32_t first = (run ? tile - tiles0 : tile) * K;
        uint32_t from[2] = {}, end[2] = {};
        if (in.window == ~0u && first + K <= (run ? seen_by_all : work.len[0])) {
            weigh<false>(state, s, in.scale, first + 2 * t, from, end);
        } else {
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const uint32_t row = 16 * warp + g + 8 * h;
                end[h] = run ? reach : work.len[0];
                if (run && work.visible != ~0u) end[h] = uint32_t(min(uint64_t(end[h]), uint64_t(work.visible) + row / work.pack));
                if (in.window != ~0u && row < work.rows) {
                    from[h] = first_of(row / work.pack);
                    if (run) from[h] = from[h] > work.len[0] ? from[h] - work.len[0] : 0;
                }
            }
            weigh<true>(state, s, in.scale, first + 2 * t, from, end);
        }
        columns_product(state.out, s, shared.v[stage]);
    }
    cp_async_wait(0);
#pragma unroll
    for (int h = 0; h < 2; h++) {
        state.total[h] += __shfl_xor_sync(kAllLanes, state.total[h], 1);
        state.total[h] += __shfl_xor_sync(kAllLanes, state.total[h], 2);
    }
}
