// The scan of topk.cu for bf16 rows that fit into shared memory whole: queries stay there, items
// stream past them once.
//
//   shared memory   own: 128 queries (or 64), all of their width | two tiles of 64 items (32 of width 256), by cp.async
//                   keys of lists that are being sorted
//
// A warp scores 32 queries against a tile: of six ldmatrix, two for the queries and four for the
// items, come sixteen products, where the 64 x 64 tile of topk.cu needs five for eight and brings
// the queries again for every tile of items. What becomes of the scores is best.cuh's: per row and
// lane a tree of maxima and one comparison.
//
// Up to 64 queries: 64 of them a block (`few`), so that less of the matrix work is padding and more
// blocks stream items.
//
// FLOP: 2 Q N d. Bytes: s d (Q + N), items again from L2 for every 128 queries.

#include "common/best.cuh"
#include "common/strip.cuh"

namespace {

constexpr int kThreads = 128;

template <class S>
__device__ __forceinline__ void scan(char* bytes, const RowsOf<bf16>& queries, const RowsOf<bf16>& items, const BestInput& in,
                                     uint32_t step, uint64_t* __restrict__ lists, uint64_t* __restrict__ candidates) {
    const Best<S::M> best = best_of<S::M>(in, bytes + sizeof(typename S::Shared), lists);
    best.begin();
    const uint64_t tiles = (items.rows + S::K - 1) / S::K;
    const auto place = [&](uint64_t tile) { return best_tile(blockIdx.y + tile * gridDim.y, step, tiles) * S::K; };
    const uint64_t mine = blockIdx.y < tiles ? (tiles - blockIdx.y + gridDim.y - 1) / gridDim.y : 0;
    strip_walk<S>(*reinterpret_cast<typename S::Shared*>(bytes), queries, uint64_t(blockIdx.x) * S::own, items, mine, place,
                  [&](uint64_t tile, typename S::Scores& scores, const typename S::Rows&) { best.take(scores, place(tile)); });
    best.end(candidates + blockIdx.y * queries.rows * in.room);
}

}  // namespace

#define TOPK_STRIP(NAME, ...)                                                                                          \
    extern "C" __global__ void __launch_bounds__(kThreads, 2)                                                          \
        NAME(const __grid_constant__ ScanArgs<bf16> a) {                                                               \
        DYNAMIC_SHARED(bytes);                                                                                         \
        const BestInput in = {a.query_count, a.item_count, a.seen_starts, a.seen_items, a.room, a.keep, a.thresholds}; \
        scan<StripShape<bf16, __VA_ARGS__>>(bytes, RowsOf<bf16>{a.queries, a.query_count, a.dim, a.query_stride},      \
                                            RowsOf<bf16>{a.items, a.item_count, a.dim, a.item_stride}, in, a.step,     \
                                            a.lists, a.candidates);                                                    \
    }                                                                                                                  \
    RALLREC_CONSTANT(NAME##_queries, StripShape<bf16, __VA_ARGS__>::own);                                              \
    RALLREC_CONSTANT(NAME##_items, StripShape<bf16, __VA_ARGS__>::K);                                                  \
    RALLREC_CONSTANT(NAME##_tiles, sizeof(StripShape<bf16, __VA_ARGS__>::Shared));                                     \
    RALLREC_KERNEL(NAME, kThreads)

// Width, rows of 16 a warp, items of a tile, stages, steps of the width at once.
TOPK_STRIP(topk_strip_bf16_64, 64, 2, 64, 2, 2);
TOPK_STRIP(topk_strip_bf16_128, 128, 2, 64, 2, 2);
TOPK_STRIP(topk_strip_bf16_256, 256, 1, 32, 2, 2);
TOPK_STRIP(topk_strip_few_bf16_64, 64, 1, 64, 2, 2);
TOPK_STRIP(topk_strip_few_bf16_128, 128, 1, 64, 2, 2);
