// The best items that a warp's queries have met: what the scans of topk.cu and topk_strip.cu do
// with a tile of scores.
//
//   scores (registers) -> the largest of a lane's part of a row >= threshold[query]?  almost always no: nothing else is done
//        yes -> each -> key = (ordered score, ~index); above the query's least kept key, and not seen? -> append to its list
//   list of a query, in L2:   | kept, KP | new, KP |     when the new half may overflow, the warp sorts all 2 KP keys
//                                                        in shared memory, keeps KP and raises the threshold
//
// Thresholds are shared between the blocks of a query by atomic max on ordered integers. When a
// block reads a raised one depends on chance; which keys survive to the end does not: what is
// dropped is below k + 32 others. A warp owns its queries, so all of this needs no barrier.
#pragma once

#include "sort.cuh"
#include "warp.cuh"

// The arguments of a scan, in topk.cu and topk_strip.cu.
#define SCAN_ARGS(F) F(const T*, queries) F(uint64_t, query_count) F(uint32_t, query_stride) F(const T*, items)   \
    F(uint64_t, item_count) F(uint32_t, item_stride) F(uint32_t, dim) F(const uint64_t*, seen_starts)             \
    F(const uint32_t*, seen_items) F(uint32_t, room) F(uint32_t, keep) F(uint32_t, step) F(uint32_t*, thresholds) \
    F(uint64_t*, lists) F(uint64_t*, candidates)
ARGUMENTS_OF(ScanArgs, SCAN_ARGS);

__device__ __forceinline__ bool seen(const uint64_t* __restrict__ starts, const uint32_t* __restrict__ items, uint64_t query,
                                     uint32_t item) {
    if (!starts) return false;
    uint64_t low = starts[query], high = starts[query + 1];
    const uint64_t end = high;
    while (low < high) {
        const uint64_t middle = (low + high) / 2;
        if (items[middle] < item)
            low = middle + 1;
        else
            high = middle;
    }
    return low < end && items[low] == item;
}

// A call of top-K: its sizes and lists.
struct BestInput {
    uint64_t queries, items;
    const uint64_t* seen_starts;  // null: every item may come
    const uint32_t* seen_items;
    uint32_t room;         // KP, a power of two
    uint32_t keep;         // k + 32, at most KP
    uint32_t* thresholds;  // a query's, as ordered integers
};

// In shared memory, of R queries.
template <int R> struct BestState {
    uint64_t least[R];    // keys up to this cannot be among the best
    float threshold[R];   // its score
    uint32_t count[R];
};

// A warp's view: 16 M queries from `query0` on, their lists of 2 KP keys, and 2 KP keys of shared
// memory.
template <int M> struct Best {
    static constexpr int R = 16 * M;
    const BestInput& in;
    BestState<R>& state;
    uint64_t* scratch;
    uint64_t* lists;
    uint64_t query0;
    // What other blocks had found for the lane's query when the last tile was taken: asked for
    // then, so that the answer arrives while the next tile is multiplied.
    mutable uint32_t heard;

    __device__ __forceinline__ void begin() const {
        const int lane = threadIdx.x % 32;
        if (lane < R) {
            state.least[lane] = 0;
            state.threshold[lane] = -INFINITY;
            state.count[lane] = 0;
        }
        __syncwarp();
    }

    // Sorts a query's list and keeps the best of it.
    __device__ __forceinline__ void tighten(int row) const {
        const uint32_t lane = threadIdx.x % 32, count = state.count[row];
        uint64_t* list = lists + row * uint64_t(2 * in.room);
        for (uint32_t i = lane; i < 2 * in.room; i += 32) scratch[i] = i < count ? list[i] : 0;
        __syncwarp();
        sort_warp<true>(scratch, 2 * in.room, lane);
        for (uint32_t i = lane; i < in.room; i += 32) list[i] = scratch[i];
        if (lane == 0) {
            state.count[row] = min(count, in.room);
            const uint64_t last = scratch[in.keep - 1];
            if (last > state.least[row]) {
                state.least[row] = last;
                state.threshold[row] = unordered(uint32_t(last >> 32));
                atomicMax(in.thresholds + query0 + row, uint32_t(last >> 32));
            }
        }
        __syncwarp();
    }

    // Takes the scores of 16 M queries and 8 N items from `col0` on, as matrix accumulators lie.
    template <int N> __device__ __forceinline__ void take(const float (&scores)[M][N][4], uint64_t col0) const {
        const int lane = threadIdx.x % 32;
        if (lane < R && heard > uint32_t(state.least[lane] >> 32)) {
            state.least[lane] = uint64_t(heard) << 32;
            state.threshold[lane] = unordered(heard);
        }
        __syncwarp();
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const int row = 16 * m + lane / 4 + 8 * h;
                const float threshold = state.threshold[row];
                float top = -INFINITY;
#pragma unroll
                for (int n = 0; n < N; n++) top = fmaxf(top, fmaxf(scores[m][n][2 * h], scores[m][n][2 * h + 1]));
                const uint64_t query = query0 + row;
                if (!(top >= threshold) || query >= in.queries) continue;
#pragma unroll
                for (int n = 0; n < N; n++)
#pragma unroll
                    for (int c = 0; c < 2; c++) {
                        const float score = scores[m][n][2 * h + c];
                        const uint64_t item = col0 + 8 * n + 2 * (lane % 4) + c;
                        if (!(score >= threshold) || item >= in.items) continue;
                        const uint64_t key = score_key(score, uint32_t(item));
                        if (key <= state.least[row] || seen(in.seen_starts, in.seen_items, query, uint32_t(item))) continue;
                        lists[row * uint64_t(2 * in.room) + atomicAdd(&state.count[row], 1u)] = key;
                    }
            }
        __syncwarp();
        uint32_t full = __ballot_sync(kAllLanes, lane < R && state.count[lane % R] > 2 * in.room - 8 * N);
        for (; full; full &= full - 1) tighten(__ffs(full) - 1);
        if (lane < R && query0 + lane < in.queries) heard = atomicMax(in.thresholds + query0 + lane, 0u);
    }

    // The best KP of each query into `candidates` (of this block's share of the items), zeros
    // behind the first k + 32.
    __device__ __forceinline__ void end(uint64_t* __restrict__ candidates) const {
        const uint32_t lane = threadIdx.x % 32;
        for (int row = 0; row < R && query0 + row < in.queries; row++) {
            const uint32_t count = state.count[row];
            const uint64_t* list = lists + row * uint64_t(2 * in.room);
            for (uint32_t i = lane; i < 2 * in.room; i += 32) scratch[i] = i < count ? list[i] : 0;
            __syncwarp();
            sort_warp<true>(scratch, 2 * in.room, lane);
            for (uint32_t i = lane; i < in.room; i += 32) candidates[(query0 + row) * in.room + i] = i < in.keep ? scratch[i] : 0;
            __syncwarp();
        }
    }
};

// What a block of four warps with 16 M queries each keeps in shared memory behind the tiles:
// states, then 2 KP keys a warp.
template <int M> struct BestShared {
    BestState<16 * M> state[4];
};
template <int M>
__device__ __forceinline__ Best<M> best_of(const BestInput& in, char* shared, uint64_t* lists) {
    const int warp = threadIdx.x / 32;
    BestShared<M>& states = *reinterpret_cast<BestShared<M>*>(shared);
    uint64_t* scratch = reinterpret_cast<uint64_t*>(shared + sizeof(BestShared<M>)) + warp * uint64_t(2 * in.room);
    const uint64_t block = uint64_t(blockIdx.y) * gridDim.x + blockIdx.x;
    return {in, states.state[warp], scratch, lists + (block * 4 + warp) * 16 * M * uint64_t(2 * in.room),
            (uint64_t(blockIdx.x) * 4 + warp) * 16 * M, 0};
}

// Tiles are visited in strides, since ascending scores would otherwise defeat every threshold: the
// `visit`-th of `tiles` for a `step` without a common factor.
__device__ __forceinline__ uint64_t best_tile(uint64_t visit, uint32_t step, uint64_t tiles) { return visit * step % tiles; }
