// For each query the k items of largest inner product; items already seen are left out; ties go to
// the lower index.
//
// topk_scan: a block holds 64 queries and walks over its share of the items in 64 x 64 score tiles
// of tile.cuh, a warp 16 of them; best.cuh keeps the best. Any width and storage; topk_strip.cu
// does it for bf16 rows that fit into shared memory whole.
//
// Scores of the scan are those of tile.cuh: f32 values are taken to 24 bits, but not below 2^-134,
// where bf16 planes end. Among rows whose scores differ by less than that, the scan may keep any;
// embeddings are nowhere near.
//
// topk_join: the candidates of some blocks of a query become those of one, where there are more
// than topk_finish sorts at once. topk_finish: joins the blocks' lists of a query, scores the best
// k + 32 again in f32 in one fixed order, sorts, writes k. topk_history: the same among the items
// of a list of its own for every query (a user's history): no tiles, 1 to 32 lanes an item, and no
// larger sort than the list needs.
//
// FLOP: 2 Q N d. Bytes: s d (Q + N), items again from L2 for every 64 queries.

#include "common/best.cuh"
#include "common/tile.cuh"
#include "common/warp.cuh"

#define TOPK_FINISH_ARGS(F) F(const T*, queries) F(uint64_t, query_count) F(uint32_t, query_stride)          \
    F(const T*, items) F(uint64_t, item_count) F(uint32_t, item_stride) F(uint32_t, dim)                     \
    F(const uint64_t*, candidates) F(uint32_t, splits) F(uint32_t, room) F(uint32_t, size) F(uint32_t, keep) \
    F(uint32_t, k) F(uint32_t*, index) F(float*, score) F(uint32_t*, counts)
ARGUMENTS_OF(TopkFinishArgs, TOPK_FINISH_ARGS);

#define HISTORY_ARGS(F) F(const T*, items) F(uint64_t, item_count) F(uint32_t, stride) F(uint32_t, dim) \
    F(const uint32_t*, targets) F(const uint64_t*, starts) F(const uint32_t*, rows) F(uint32_t, k)      \
    F(uint32_t*, index) F(float*, score) F(uint32_t*, counts)
ARGUMENTS_OF(HistoryArgs, HISTORY_ARGS);

namespace {

template <class T>
__device__ __forceinline__ void scan(char* bytes, const RowsOf<T>& queries, const RowsOf<T>& items, const BestInput& in, uint32_t step,
                                     uint64_t* __restrict__ lists, uint64_t* __restrict__ candidates) {
    TileShared<T>& tile = *reinterpret_cast<TileShared<T>*>(bytes);
    const Best<1> best = best_of<1>(in, bytes + sizeof(TileShared<T>), lists);
    best.begin();
    const uint64_t tiles = (items.rows + kTileRows - 1) / kTileRows;
    for (uint64_t visit = blockIdx.y; visit < tiles; visit += gridDim.y) {
        const uint64_t col0 = best_tile(visit, step, tiles) * kTileRows;
        float scores[1][8][4] = {};
        tile_product(scores[0], tile, queries, uint64_t(blockIdx.x) * kTileRows, items, col0);
        best.take(scores, col0);
    }
    best.end(candidates + blockIdx.y * queries.rows * in.room);
}

// The best KP of a query's candidates of up to `share` splits each, in place of them: fewer splits
// for `finish`.
__device__ __forceinline__ void join_splits(uint64_t* keys, uint64_t queries, const uint64_t* __restrict__ candidates, uint32_t splits,
                                            uint32_t share, uint32_t room, uint32_t size, uint64_t* __restrict__ out) {
    const uint64_t query = blockIdx.x;
    const uint32_t first = blockIdx.y * share;
    for (uint32_t i = threadIdx.x; i < size; i += kTileThreads) {
        const uint32_t s = i / room;
        keys[i] = s < share && first + s < splits ? candidates[((first + s) * queries + query) * room + i % room] : 0;
    }
    __syncthreads();
    sort_block<true>(keys, size, threadIdx.x, kTileThreads);
    for (uint32_t i = threadIdx.x; i < room; i += kTileThreads) out[(blockIdx.y * queries + query) * room + i] = keys[i];
}

// How many lanes share a row of `depth` values, 16 bytes a lane: a power of two, so that a warp has
// whole rows.
template <class T> __device__ __forceinline__ uint32_t lanes_a_row(uint32_t depth) {
    uint32_t lanes = 1;
    while (lanes < 32 && lanes * Vec<T>::size < depth) lanes *= 2;
    return lanes;
}

// The same in each of the `lanes` lanes. The whole warp calls it; `depth` is 0 for a row that is
// not there. What pads a row is zero.
template <class T>
__device__ __forceinline__ float dot(const T* __restrict__ a, const T* __restrict__ b, uint32_t depth, uint32_t lane, uint32_t lanes) {
    constexpr int V = Vec<T>::size;
    float sum = 0;
    for (uint32_t c = lane * V; c < depth; c += lanes * V) {
        Vec<T> x, y;
        x.load(a + c);
        y.load(b + c);
#pragma unroll
        for (int v = 0; v < V; v++) sum += x.get(v) * y.get(v);
    }
    for (uint32_t apart = lanes / 2; apart; apart /= 2) sum += __shfl_xor_sync(kAllLanes, sum, apart);
    return sum;
}

// `size` is a power of two of at least splits x room.
template <class T>
__device__ __forceinline__ void finish(uint64_t* keys, const RowsOf<T>& queries, const RowsOf<T>& items,
                                       const uint64_t* __restrict__ candidates, uint32_t splits, uint32_t room, uint32_t size,
                                       uint32_t keep, uint32_t k, uint32_t* __restrict__ index, float* __restrict__ score,
                                       uint32_t* __restrict__ counts) {
    const uint64_t query = blockIdx.x;
    const uint32_t lanes = lanes_a_row<T>(items.depth), groups = kTileThreads / lanes;
    const uint32_t lane = threadIdx.x % lanes, group = threadIdx.x / lanes;
    for (uint32_t i = threadIdx.x; i < size; i += kTileThreads) {
        const uint32_t s = i / room;
        keys[i] = s < splits ? candidates[(s * queries.rows + query) * room + i % room] : 0;
    }
    __syncthreads();
    sort_block<true>(keys, size, threadIdx.x, kTileThreads);
    const T* own = queries.base + query * queries.stride;
    for (uint32_t base = 0; base < room; base += groups) {
        const uint32_t i = base + group;
        const uint64_t key = i < keep ? keys[i] : 0;
        const uint32_t item = key ? ~uint32_t(key) : 0;
        const float exact = dot(own, items.base + uint64_t(item) * items.stride, key ? items.depth : 0, lane, lanes);
        __syncwarp();
        if (lane == 0 && i < room) keys[i] = key ? score_key(exact, item) : 0;
    }
    __syncthreads();
    sort_block<true>(keys, room, threadIdx.x, kTileThreads);
    for (uint32_t i = threadIdx.x; i < k; i += kTileThreads) {
        const uint64_t key = keys[i];
        index[query * k + i] = key ? ~uint32_t(key) : 0xffffffffu;
        score[query * k + i] = key ? unordered(uint32_t(key >> 32)) : -INFINITY;
        const bool last = key && (i + 1 == k || keys[i + 1] == 0);
        if (last) counts[query] = i + 1;
    }
    if (threadIdx.x == 0 && !keys[0]) counts[query] = 0;
}

constexpr uint32_t kHistory = 1024;  // 512 kept, 512 new; of the first round all are new

template <class T>
__device__ __forceinline__ void history(const RowsOf<T>& items, const uint32_t* __restrict__ targets,
                                        const uint64_t* __restrict__ starts, const uint32_t* __restrict__ rows, uint32_t k,
                                        uint32_t* __restrict__ index, float* __restrict__ score, uint32_t* __restrict__ counts) {
    SHARED(uint64_t, keys, [kHistory]);
    const uint64_t query = blockIdx.x, begin = starts[query], end = starts[query + 1];
    const uint32_t lanes = lanes_a_row<T>(items.depth), groups = kTileThreads / lanes;
    const uint32_t lane = threadIdx.x % lanes, group = threadIdx.x / lanes;
    const T* own = items.base + uint64_t(targets[query]) * items.stride;
    uint32_t kept = 0;
    for (uint64_t from = begin; from < end;) {
        const uint32_t here = uint32_t(min(end - from, uint64_t(kHistory - kept)));
        for (uint32_t base = 0; base < here; base += groups) {
            const uint32_t i = base + group;
            const uint32_t row = i < here ? rows[from + i] : 0;
            const float found = dot(own, items.base + uint64_t(row) * items.stride, i < here ? items.depth : 0, lane, lanes);
            if (lane == 0 && i < here) keys[kept + i] = score_key(found, row);
        }
        uint32_t size = 2;
        while (size < kept + here) size *= 2;
        for (uint32_t i = kept + here + threadIdx.x; i < size; i += kTileThreads) keys[i] = 0;
        __syncthreads();
        sort_block<true>(keys, size, threadIdx.x, kTileThreads);
        from += here;
        kept = min(kept + here, kHistory / 2);
    }
    const uint32_t found = uint32_t(min(end - begin, uint64_t(k)));
    for (uint32_t i = threadIdx.x; i < k; i += kTileThreads) {
        const uint64_t key = i < found ? keys[i] : 0;
        index[query * k + i] = key ? ~uint32_t(key) : 0xffffffffu;
        score[query * k + i] = key ? unordered(uint32_t(key >> 32)) : -INFINITY;
    }
    if (threadIdx.x == 0) counts[query] = found;
}

}  // namespace

RALLREC_CONSTANT(topk_state, sizeof(BestState<64>) / 64);

#define TOPK(SUFFIX, T)                                                                                                \
    extern "C" __global__ void __launch_bounds__(kTileThreads, 2)                                                      \
        topk_scan_##SUFFIX(const __grid_constant__ ScanArgs<T> a) {                                                    \
        DYNAMIC_SHARED(bytes);                                                                                         \
        const BestInput in = {a.query_count, a.item_count, a.seen_starts, a.seen_items, a.room, a.keep, a.thresholds}; \
        scan<T>(bytes, RowsOf<T>{a.queries, a.query_count, a.dim, a.query_stride},                                     \
                RowsOf<T>{a.items, a.item_count, a.dim, a.item_stride}, in, a.step, a.lists, a.candidates);            \
    }                                                                                                                  \
    RALLREC_KERNEL(topk_scan_##SUFFIX, kTileThreads);                                                                  \
    extern "C" __global__ void __launch_bounds__(kTileThreads)                                                         \
        topk_finish_##SUFFIX(const __grid_constant__ TopkFinishArgs<T> a) {                                            \
        DYNAMIC_SHARED(bytes);                                                                                         \
        finish<T>(reinterpret_cast<uint64_t*>(bytes), RowsOf<T>{a.queries, a.query_count, a.dim, a.query_stride},      \
                  RowsOf<T>{a.items, a.item_count, a.dim, a.item_stride}, a.candidates, a.splits, a.room, a.size,      \
                  a.keep, a.k, a.index, a.score, a.counts);                                                            \
    }                                                                                                                  \
    RALLREC_KERNEL(topk_finish_##SUFFIX, kTileThreads);                                                                \
    extern "C" __global__ void __launch_bounds__(kTileThreads)                                                         \
        topk_history_##SUFFIX(const __grid_constant__ HistoryArgs<T> a) {                                              \
        history<T>(RowsOf<T>{a.items, a.item_count, a.dim, a.stride}, a.targets, a.starts, a.rows, a.k, a.index,       \
                   a.score, a.counts);                                                                                 \
    }                                                                                                                  \
    RALLREC_KERNEL(topk_history_##SUFFIX, kTileThreads);

TOPK(f32, float)
TOPK(bf16, bf16)

extern "C" __global__ void __launch_bounds__(kTileThreads)
    topk_join(uint64_t queries, const uint64_t* candidates, uint32_t splits, uint32_t share, uint32_t room, uint32_t size,
              uint64_t* out) {
    DYNAMIC_SHARED(bytes);
    join_splits(reinterpret_cast<uint64_t*>(bytes), queries, candidates, splits, share, room, size, out);
}
RALLREC_KERNEL(topk_join, kTileThreads);
