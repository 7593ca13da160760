// What barriers, tiles and products of sm_90 know of each other: hopper.cpp and wgmma.cpp.
#pragma once

#include <array>
#include <memory>

#include "runtime.h"

namespace rallrec_host {

constexpr unsigned char kFresh = 0xFF;  // of what nobody has written: NaN

struct Mbarrier {
    uint64_t* at;
    const Site *made, *announced;
    unsigned count, missing, phase;
    int64_t bytes;       // announced and not landed
    unsigned passed[8];  // phases that somebody of each warpgroup has waited for
    char keys[2];        // of phases with even and odd numbers, for ThreadSanitizer
    unsigned maker;      // the thread that made it
    bool fenced;         // and has told TMA so
};

struct Load {
    char* to;
    std::vector<char> bytes;  // as they will lie
    Mbarrier* barrier;
    const Site* site;
};

// Where a tile has landed.
struct Tile {
    const char *low, *high;
    const Mbarrier* barrier;
    unsigned phase;
    const Site* site;
};

struct Operand {
    uint64_t descriptor;
    bool turned;
    unsigned rows;
};

// One wgmma of a warpgroup.
struct Product {
    const Site* site;
    Operand left, right;
    Accumulators* acc[128];
    unsigned warpgroup, group[4], done;  // group: which of each warp's; done: warps that have waited
    const char *low[2], *high[2];        // between which the operands lie
    uint16_t values[192][16];            // both operands when it was issued
};

// Threads of a warpgroup on their way to one instruction.
struct Party {
    const Site* site;
    unsigned arrived;
    uint64_t a, b;
    Accumulators* acc[128];
};

struct Hopper {
    std::array<Mbarrier, 64> barriers;
    unsigned barrier_count = 0;
    std::vector<Load> loads;
    std::vector<Tile> tiles;
    std::vector<std::unique_ptr<Product>> products, spare;
    Party parties[8];
    unsigned committed[32];
    char warp_keys[32];
    int launched;            // registers of each thread at first
    int registers[32];       // of each of a warp's threads
    int spare_registers;     // given back and not taken
    const Site* registers_site;
    bool fenced[1024];
    const Mbarrier* waits_for[1024];
    uint64_t haste = 1;
};
// Of the block that runs.
inline Hopper& hopper() { return *run->hopper; }

// The 16-byte chunks of eight lines of 128 bytes change places: bits 4..6 of an address are XORed
// with its bits 7..9.
template <class A> inline A swizzle(A address) { return address ^ (address >> 3 & 0x70); }

// wgmma.cpp: the product that still reads there, if any.
const Product* product_of(const void* p, size_t bytes);

}  // namespace rallrec_host
