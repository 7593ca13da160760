// For each query the k items of largest inner product; items already seen are left out; ties go to the lower index.
//
// topk_scan: a block holds 64 queries and walks over its share of the items in 64 x 64 score tiles of tile.cuh. A warp owns
// 16 queries, so nothing of a query is shared between warps:
//
//   scores (registers) -> s >= threshold[query]?  almost always no
//        yes -> key = (ordered score, ~index); above the query's least kept key, and not seen? -> append to its list
//   list of a query, in L2:   | kept, KP | new, KP |     when the new half is nearly full the warp sorts all 2 KP keys in
//                                                        shared memory, keeps KP and raises the threshold
//
// Thresholds are shared between the blocks of a query by atomic max on ordered integers. When a block reads a raised one
// depends on chance; which keys survive to the end does not: what is dropped is below k + 32 others.
// Tiles are visited in strides, since ascending scores would otherwise defeat every threshold.
//
// Scores of the scan are those of tile.cuh: f32 values are taken to 24 bits, but not below 2^-134, where bf16 planes end.
// Among rows whose scores differ by less than that, the scan may keep any; embeddings are nowhere near.
//
// topk_finish: joins the blocks' lists of a query, scores the best k + 32 again in f32 in one fixed order, sorts, writes k.
// topk_history: the same among the items of a list of its own for every query (a user's history): no tiles, a warp an item.
//
// FLOP: 2 Q N d. Bytes: s d (Q + N), items again from L2 for every 64 queries.

#include "common/sort.cuh"
#include "common/tile.cuh"
#include "common/warp.cuh"

namespace {

constexpr int kWarps = kTileThreads / 32;
constexpr int kRowsOfWarp = kTileRows / kWarps;

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

struct ScanState {
    uint64_t least[kTileRows];     // keys up to this cannot be among the best
    float threshold[kTileRows];    // its score
    uint32_t count[kTileRows];
};

// Sorts a query's list and keeps `room` of it; `keep` is k + 32.
__device__ __forceinline__ void tighten(uint64_t* __restrict__ list, uint64_t* scratch, uint32_t room, uint32_t keep,
                                        ScanState& state, int row, uint32_t* __restrict__ shared_threshold) {
    const uint32_t lane = threadIdx.x % 32, count = state.count[row];
    for (uint32_t i = lane; i < 2 * room; i += 32) scratch[i] = i < count ? list[i] : 0;
    __syncwarp();
    sort_warp<true>(scratch, 2 * room, lane);
    for (uint32_t i = lane; i < room; i += 32) list[i] = scratch[i];
    if (lane == 0) {
        state.count[row] = min(count, room);
        const uint64_t last = scratch[keep - 1];
        if (last > state.least[row]) {
            state.least[row] = last;
            state.threshold[row] = unordered(uint32_t(last >> 32));
            atomicMax(shared_threshold, uint32_t(last >> 32));
        }
    }
    __syncwarp();
}

template <class T>
__device__ __forceinline__ void scan(char* bytes, const RowsOf<T>& queries, const RowsOf<T>& items,
                                     const uint64_t* __restrict__ starts, const uint32_t* __restrict__ seen_items, uint32_t room,
                                     uint32_t keep, uint32_t step, uint32_t* __restrict__ thresholds, uint64_t* __restrict__ lists,
                                     uint64_t* __restrict__ candidates) {
    TileShared<T>& tile = *reinterpret_cast<TileShared<T>*>(bytes);
    ScanState& state = *reinterpret_cast<ScanState*>(bytes + sizeof(TileShared<T>));
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    uint64_t* scratch = reinterpret_cast<uint64_t*>(bytes + sizeof(TileShared<T>) + sizeof(ScanState)) + warp * 2 * room;
    const uint64_t row0 = uint64_t(blockIdx.x) * kTileRows;
    uint64_t* mine = lists + (uint64_t(blockIdx.y) * gridDim.x + blockIdx.x) * kTileRows * 2 * room;
    if (threadIdx.x < kTileRows) {
        state.least[threadIdx.x] = 0;
        state.threshold[threadIdx.x] = -INFINITY;
        state.count[threadIdx.x] = 0;
    }
    __syncthreads();
    const uint64_t tiles = (items.rows + kTileRows - 1) / kTileRows;
    for (uint64_t visit = blockIdx.y; visit < tiles; visit += gridDim.y) {
        const uint64_t col0 = visit * step % tiles * kTileRows;
        float acc[8][4] = {};
        tile_product(acc, tile, queries, row0, items, col0);
        // What other blocks have found.
        if (lane < kRowsOfWarp) {
            const int row = warp * kRowsOfWarp + lane;
            if (row0 + row < queries.rows) {
                const uint32_t found = atomicMax(&thresholds[row0 + row], 0u);
                if (found > uint32_t(state.least[row] >> 32)) {
                    state.least[row] = uint64_t(found) << 32;
                    state.threshold[row] = unordered(found);
                }
            }
        }
        __syncwarp();
#pragma unroll
        for (int c = 0; c < 4; c++) {
            const int row = tile_row(c);
            const float threshold = state.threshold[row];
#pragma unroll
            for (int n = 0; n < 8; n++) {
                if (!(acc[n][c] >= threshold)) continue;
                const uint64_t item = col0 + tile_column(n, c), query = row0 + row;
                if (item >= items.rows || query >= queries.rows) continue;
                const uint64_t key = score_key(acc[n][c], uint32_t(item));
                if (key <= state.least[row] || seen(starts, seen_items, query, uint32_t(item))) continue;
                mine[row * uint64_t(2 * room) + atomicAdd(&state.count[row], 1u)] = key;
            }
        }
        __syncwarp();
        for (int r = 0; r < kRowsOfWarp; r++) {
            const int row = warp * kRowsOfWarp + r;
            const bool full = state.count[row] > 2 * room - kTileRows;
            __syncwarp();
            if (full) tighten(mine + row * uint64_t(2 * room), scratch, room, keep, state, row, &thresholds[row0 + row]);
        }
    }
    for (int r = 0; r < kRowsOfWarp; r++) {
        const int row = warp * kRowsOfWarp + r;
        if (row0 + row >= queries.rows) continue;
        const uint32_t count = state.count[row];
        const uint64_t* list = mine + row * uint64_t(2 * room);
        for (uint32_t i = lane; i < 2 * room; i += 32) scratch[i] = i < count ? list[i] : 0;
        __syncwarp();
        sort_warp<true>(scratch, 2 * room, lane);
        uint64_t* out = candidates + (blockIdx.y * queries.rows + row0 + row) * room;
        for (uint32_t i = lane; i < room; i += 32) out[i] = i < keep ? scratch[i] : 0;
        __syncwarp();
    }
}

template <class T>
__device__ __forceinline__ float dot(const T* __restrict__ a, const T* __restrict__ b, uint32_t depth, int lane) {
    float sum = 0;
    for (uint32_t c = lane; c < depth; c += 32) sum += to_float(a[c]) * to_float(b[c]);
    return warp_sum(sum);
}

// `size` is a power of two of at least splits x room.
template <class T>
__device__ __forceinline__ void finish(uint64_t* keys, const RowsOf<T>& queries, const RowsOf<T>& items,
                                       const uint64_t* __restrict__ candidates, uint32_t splits, uint32_t room, uint32_t size,
                                       uint32_t keep, uint32_t k, uint32_t* __restrict__ index, float* __restrict__ score,
                                       uint32_t* __restrict__ counts) {
    const uint64_t query = blockIdx.x;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (uint32_t i = threadIdx.x; i < size; i += kTileThreads) {
        const uint32_t s = i / room;
        keys[i] = s < splits ? candidates[(s * queries.rows + query) * room + i % room] : 0;
    }
    __syncthreads();
    sort_block<true>(keys, size, threadIdx.x, kTileThreads);
    for (uint32_t i = warp; i < room; i += kWarps) {
        const uint64_t key = i < keep ? keys[i] : 0;
        const uint32_t item = ~uint32_t(key);
        uint64_t exact = 0;
        if (key) exact = score_key(dot(queries.base + query * queries.stride, items.base + uint64_t(item) * items.stride, items.depth, lane), item);
        __syncwarp();
        if (lane == 0) keys[i] = exact;
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

constexpr uint32_t kHistory = 1024;  // 512 kept, 512 new

template <class T>
__device__ __forceinline__ void history(const RowsOf<T>& items, const uint32_t* __restrict__ targets,
                                        const uint64_t* __restrict__ starts, const uint32_t* __restrict__ rows, uint32_t k,
                                        uint32_t* __restrict__ index, float* __restrict__ score, uint32_t* __restrict__ counts) {
    SHARED(uint64_t, keys, [kHistory]);
    const uint64_t query = blockIdx.x, begin = starts[query], end = starts[query + 1];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (uint32_t i = threadIdx.x; i < kHistory; i += kTileThreads) keys[i] = 0;
    __syncthreads();
    for (uint64_t from = begin; from < end; from += kHistory / 2) {
        for (uint32_t i = warp; i < kHistory / 2; i += kWarps) {
            uint64_t key = 0;
            if (from + i < end) {
                const uint32_t row = rows[from + i];
                key = score_key(dot(items.base + uint64_t(targets[query]) * items.stride, items.base + uint64_t(row) * items.stride, items.depth, lane), row);
            }
            if (lane == 0) keys[kHistory / 2 + i] = key;
        }
        __syncthreads();
        sort_block<true>(keys, kHistory, threadIdx.x, kTileThreads);
    }
    for (uint32_t i = threadIdx.x; i < k; i += kTileThreads) {
        const uint64_t key = keys[i];
        index[query * k + i] = key ? ~uint32_t(key) : 0xffffffffu;
        score[query * k + i] = key ? unordered(uint32_t(key >> 32)) : -INFINITY;
    }
    if (threadIdx.x == 0) counts[query] = uint32_t(min(end - begin, uint64_t(k)));
}

}  // namespace

#define TOPK(SUFFIX, T)                                                                                                   \
    extern "C" __global__ void __launch_bounds__(kTileThreads, 2)                                                            \
        topk_scan_##SUFFIX(const T* queries, uint64_t query_count, uint32_t query_stride, const T* items,                 \
                           uint64_t item_count, uint32_t item_stride, uint32_t dim, const uint64_t* seen_starts,          \
                           const uint32_t* seen_items, uint32_t room, uint32_t keep, uint32_t step, uint32_t* thresholds, \
                           uint64_t* lists, uint64_t* candidates) {                                                       \
        DYNAMIC_SHARED(bytes);                                                                                            \
        scan<T>(bytes, RowsOf<T>{queries, query_count, dim, query_stride}, RowsOf<T>{items, item_count, dim, item_stride}, \
                seen_starts, seen_items, room, keep, step, thresholds, lists, candidates);                                \
    }                                                                                                                     \
    RALLREC_KERNEL(topk_scan_##SUFFIX, kTileThreads);                                                                     \
    extern "C" __global__ void __launch_bounds__(kTileThreads)                                                            \
        topk_finish_##SUFFIX(const T* queries, uint64_t query_count, uint32_t query_stride, const T* items,               \
                             uint64_t item_count, uint32_t item_stride, uint32_t dim, const uint64_t* candidates,         \
                             uint32_t splits, uint32_t room, uint32_t size, uint32_t keep, uint32_t k, uint32_t* index,   \
                             float* score, uint32_t* counts) {                                                            \
        DYNAMIC_SHARED(bytes);                                                                                            \
        finish<T>(reinterpret_cast<uint64_t*>(bytes), RowsOf<T>{queries, query_count, dim, query_stride},                 \
                  RowsOf<T>{items, item_count, dim, item_stride}, candidates, splits, room, size, keep, k, index, score, counts); \
    }                                                                                                                     \
    RALLREC_KERNEL(topk_finish_##SUFFIX, kTileThreads);                                                                   \
    extern "C" __global__ void __launch_bounds__(kTileThreads)                                                            \
        topk_history_##SUFFIX(const T* items, uint64_t item_count, uint32_t stride, uint32_t dim, const uint32_t* targets, \
                              const uint64_t* starts, const uint32_t* rows, uint32_t k, uint32_t* index, float* score,    \
                              uint32_t* counts) {                                                                         \
        history<T>(RowsOf<T>{items, item_count, dim, stride}, targets, starts, rows, k, index, score, counts);            \
    }                                                                                                                     \
    RALLREC_KERNEL(topk_history_##SUFFIX, kTileThreads);

TOPK(f32, float)
TOPK(bf16, bf16)
