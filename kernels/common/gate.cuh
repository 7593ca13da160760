// Where a thread of a gated activation works: sixteen bytes of a row.
#pragma once

#include "base.cuh"

struct GatePlace {
    uint64_t row;
    uint32_t column;
    bool inside;
};

template <int V, int THREADS> __device__ __forceinline__ GatePlace gate_place(uint64_t rows, uint32_t width) {
    const uint32_t pieces = (width + V - 1) / V;
    const uint64_t unit = uint64_t(blockIdx.x) * THREADS + threadIdx.x;
    if (!pieces || unit >= rows * pieces) return {0, 0, false};
    return {unit / pieces, uint32_t(unit % pieces) * V, true};
}
