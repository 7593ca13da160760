// What sm_90 adds: barriers in shared memory that count arrivals and bytes (mbarrier), tiles of a
// described matrix (TMA), and products of a warpgroup (wgmma). As the PTX manual describes them;
// chapters: "mbarrier", "cp.async.bulk.tensor", "wgmma".
//
// All of it is asynchronous, and here as late as the manual allows, in the order of the seed:
// - a tile lands some time after it was asked for, at the latest when nobody can go on; where it
//   will land is NaN until then;
// - a product is made when a warp waits for it, from what shared memory holds *then*, for the 16
//   rows of this warp alone; until then
//   the accumulators are NaN. Its operands must have landed when it is issued, and must not have changed when it is made.
// The products are in wgmma.cpp.
#include <algorithm>

#include "hopper.h"

namespace rallrec_host {

Hopper* new_hopper() { return new Hopper; }

namespace {

constexpr uint64_t kBarrierTag = 0x6d62617200000000ull;  // what a barrier's word holds: this and its number
constexpr uint64_t kMapTag = 0x70616d20616d7472ull;
constexpr int64_t kMostBytes = (1 << 20) - 1;

// A descriptor of the host build, 128 bytes as the driver's; made by
// `rallrec_kernels_host::TensorMap`.
struct TensorMap {
    uint64_t tag, address, columns, rows, stride;
    uint32_t box_columns, box_rows;
    uint64_t rest[10];
};
static_assert(sizeof(TensorMap) == 128, "as large as the driver's");

Mbarrier& find(const Site* site, uint64_t* barrier) {
    if (!is_shared(barrier, 8) || reinterpret_cast<uintptr_t>(barrier) % 8)
        fail(site, "%s: a barrier is an aligned 8-byte word of shared memory", site->what);
    const uint64_t number = *barrier - kBarrierTag;
    if (number >= hopper().barrier_count || hopper().barriers[number].at != barrier)
        fail(site, "%s: no mbarrier_init was here, or the barrier's word was written since", site->what);
    {
        Heard heard;
        saw_read(barrier, 8);
    }
    return hopper().barriers[number];
}

// Ends the phase if nothing is missing.
void settle(Mbarrier& b) {
    if (b.missing || b.bytes) return;
    b.phase++;
    b.missing = b.count;
    for (unsigned t = 0; t < run->threads; t++)
        if (run->workers[t]->state == State::at_mbarrier && hopper().waits_for[t] == &b) make_ready(t);
}

void land(size_t index) {
    Load load = std::move(hopper().loads[index]);
    hopper().loads.erase(hopper().loads.begin() + index);
    mark_usable(load.to, load.bytes.size());
    for (size_t i = 0; i < load.bytes.size(); i++)
        if (static_cast<unsigned char>(load.to[i]) != kFresh) {
            report(*run->fault, nullptr, load.site, "where this TMA load goes was written before it landed");
            run->failed = true;
            return;
        }
    std::memcpy(load.to, load.bytes.data(), load.bytes.size());
    hopper().tiles.push_back({load.to, load.to + load.bytes.size(), load.barrier, load.barrier->phase, load.site});
    load.barrier->bytes -= int64_t(load.bytes.size());
    settle(*load.barrier);
}

}  // namespace

void mbarrier_init(const Site* site, uint64_t* barrier, uint32_t arrivals) {
    Quiet quiet;
    if (!is_shared(barrier, 8) || reinterpret_cast<uintptr_t>(barrier) % 8)
        fail(site, "%s: a barrier is an aligned 8-byte word of shared memory", site->what);
    if (!arrivals || arrivals > kMostBytes) fail(site, "%s: %u arrivals", site->what, arrivals);
    if (hopper().barrier_count == hopper().barriers.size()) fail(site, "more than %zu barriers", hopper().barriers.size());
    {
        Heard heard;
        saw_write(barrier, 8);
    }
    *barrier = kBarrierTag + hopper().barrier_count;
    hopper().barriers[hopper().barrier_count++] = {barrier, site, nullptr, arrivals, arrivals, 0, 0, {}, {}, self->linear, false};
}

void mbarrier_init_fence(const Site*) {
    Quiet quiet;
    for (unsigned i = 0; i < hopper().barrier_count; i++)
        if (hopper().barriers[i].maker == self->linear) hopper().barriers[i].fenced = true;
}

void mbarrier_arrive_expecting(const Site* site, uint64_t* barrier, uint32_t bytes) {
    Quiet quiet;
    Mbarrier& b = find(site, barrier);
    if (bytes) {
        b.bytes += bytes;
        b.announced = site;
        if (b.bytes > kMostBytes) fail(site, "%s: %lld bytes under way; a barrier counts to 2^20 - 1", site->what, (long long)b.bytes);
    }
    if (!b.missing) fail(site, "%s: all %u have arrived in this phase", site->what, b.count);
    b.missing--;
    order_release(&b.keys[b.phase % 2]);
    settle(b);
}

void mbarrier_wait(const Site* site, uint64_t* barrier, uint32_t parity) {
    Quiet quiet;
    Mbarrier& b = find(site, barrier);
    if (next_random() >> 32 & 1) yield();
    // Whoever sleeps for two phases sleeps on, as on a GPU.
    while (b.phase % 2 == parity % 2) {
        hopper().waits_for[self->linear] = &b;
        wait(State::at_mbarrier, site);
    }
    b.passed[self->linear / 128] = b.phase;
    order_acquire(&b.keys[parity % 2]);
}

void tma_load(const Site* site, void* to, const void* map, uint64_t* barrier, uint32_t x, uint32_t y) {
    Quiet quiet;
    Mbarrier& b = find(site, barrier);
    if (!b.fenced)
        fail(site, "%s is given a barrier that it may not see yet: whoever made it in line %d did not call mbarrier_init_fence",
             site->what, b.made->line);
    if (reinterpret_cast<uintptr_t>(map) % 64) fail(site, "%s: a tensor map must be aligned to 64 bytes", site->what);
    {
        Heard heard;
        saw_read(map, sizeof(TensorMap));
    }
    TensorMap m;
    std::memcpy(&m, map, sizeof m);
    if (m.tag != kMapTag) fail(site, "%s: this is no tensor map", site->what);
    const size_t bytes = size_t(128) * m.box_rows;
    if (reinterpret_cast<uintptr_t>(to) % 1024) fail(site, "%s: a swizzled tile must be aligned to 1024 bytes", site->what);
    if (!is_shared(to, bytes)) fail(site, "%s: a tile of %zu bytes goes outside the shared arrays", site->what, bytes);
    if (const Product* p = product_of(to, bytes))
        fail(site, "%s overwrites what the wgmma in line %d still reads: it was not waited for by every warp", site->what, p->site->line);
    if (const Site* other = load_into(to, bytes))
        fail(site, "%s: a tile goes into where one is under way from line %d", site->what, other->line);
    if (const Copy* c = copy_into(to, bytes))
        fail(site, "%s: a tile goes into where an async copy is under way from line %d", site->what, c->site->line);
    // Read now and put there later. Zeros outside, on any side.
    Load load = {static_cast<char*>(to), std::vector<char>(bytes), &b, site};
    const int64_t x0 = int32_t(x), y0 = int32_t(y);
    const int64_t first = std::max<int64_t>(0, -x0), end = std::min<int64_t>(m.box_columns, int64_t(m.columns) - x0);
    for (unsigned r = 0; r < m.box_rows; r++) {
        char line[128] = {};
        if (y0 + r >= 0 && y0 + r < int64_t(m.rows) && first < end) {
            const char* from = reinterpret_cast<const char*>(m.address) + (y0 + r) * int64_t(m.stride) + 2 * (x0 + first);
            {
                Heard heard;
                saw_read(from, 2 * (end - first));
            }
            std::memcpy(line + 2 * first, from, 2 * (end - first));
        }
        for (unsigned c = 0; c < 8; c++)
            std::memcpy(load.bytes.data() + (swizzle(reinterpret_cast<uintptr_t>(to) + 128 * r + 16 * c) - reinterpret_cast<uintptr_t>(to)),
                        line + 16 * c, 16);
    }
    {
        Heard heard;
        saw_write(to, bytes);
    }
    auto& tiles = hopper().tiles;
    const char *low = load.to, *high = low + bytes;
    tiles.erase(std::remove_if(tiles.begin(), tiles.end(), [&](const Tile& t) { return t.low < high && low < t.high; }), tiles.end());
    std::memset(to, kFresh, bytes);
    mark_unusable(to, bytes);
    order_release(&b.keys[b.phase % 2]);  // whoever sees this phase end sees the tile
    hopper().loads.push_back(std::move(load));
}

void hopper_begin_block() {
    for (Load& load : hopper().loads) mark_usable(load.to, load.bytes.size());
    hopper().loads.clear();
    hopper().tiles.clear();
    while (!hopper().products.empty()) {
        hopper().spare.push_back(std::move(hopper().products.back()));
        hopper().products.pop_back();
    }
    hopper().barrier_count = 0;
    for (Party& party : hopper().parties) party.arrived = 0;
    std::fill(std::begin(hopper().committed), std::end(hopper().committed), 0);
    // What the compiler may give each thread of the launch: all registers, by the number of
    // threads, in eights.
    hopper().launched = int(std::min(256u, 65536 / ((run->threads + 31) / 32 * 32) / 8 * 8));
    std::fill(std::begin(hopper().registers), std::end(hopper().registers), hopper().launched);
    hopper().spare_registers = 0;
    std::fill(std::begin(hopper().fenced), std::end(hopper().fenced), false);
    hopper().haste = uint64_t(1) << run->random % 10;
}

void hopper_end_block() {
    auto says = [](const Site* site, auto... text) {
        report(*run->fault, nullptr, site, text...);
        run->failed = true;
    };
    if (!hopper().loads.empty()) says(hopper().loads[0].site, "the block ends while this TMA load is under way; nobody waits for it");
    for (unsigned i = 0; i < hopper().barrier_count && !run->failed; i++) {
        const Mbarrier& b = hopper().barriers[i];
        if (b.bytes > 0) says(b.announced, "the block ends, and %lld of the bytes announced here have not landed", (long long)b.bytes);
        if (b.bytes < 0) says(b.announced ? b.announced : b.made, "%lld bytes more have landed than were announced", (long long)-b.bytes);
    }
    for (unsigned w = 0; w < (run->threads + 31) / 32 && !run->failed; w++) {
        if (hopper().registers[w] != hopper().registers[w / 4 * 4])
            says(hopper().registers_site, "warps of a warpgroup disagree about setmaxnreg: %d and %d", hopper().registers[w / 4 * 4],
                 hopper().registers[w]);
    }
}

void hopper_barrier() {
    for (unsigned i = 0; i < hopper().barrier_count; i++) {
        auto& passed = hopper().barriers[i].passed;
        std::fill(std::begin(passed), std::end(passed), *std::max_element(std::begin(passed), std::end(passed)));
    }
}

bool land_some_load(bool must) {
    if (hopper().loads.empty() || (!must && next_random() % hopper().haste)) return false;
    land(next_random() % hopper().loads.size());
    return true;
}

const Site* load_into(const void* p, size_t bytes) {
    const char *low = static_cast<const char*>(p), *high = low + bytes;
    for (const Load& load : hopper().loads)
        if (load.to < high && low < load.to + load.bytes.size()) return load.site;
    return nullptr;
}

bool explain_registers() {
    for (unsigned t = 0; t < run->threads; t++) {
        const Worker* w = run->workers[t];
        if (w->state != State::at_registers) continue;
        report(*run->fault, w, w->site,
               "%s waits for registers that nobody gives back: the block was launched with %d for each of its threads, and %d are free",
               w->site->what, hopper().launched, hopper().spare_registers);
        return true;
    }
    return false;
}

bool explain_hopper_deadlock() {
    char text[512];
    for (unsigned g = 0; g < 8; g++) {
        const Party& party = hopper().parties[g];
        if (!party.arrived) continue;
        const Worker *waits = nullptr, *other = nullptr;
        for (unsigned t = 128 * g; t < 128 * (g + 1); t++) {
            const Worker* w = run->workers[t];
            (w->state == State::at_warpgroup ? waits : other) = w;
        }
        report(*run->fault, waits, party.site, "%s: %u of the 128 threads of warpgroup %u arrive; thread %u %s", party.site->what,
               party.arrived, g, other->linear, where(*other, text, sizeof text));
        return true;
    }
    // A barrier that misses bytes, else one that misses threads.
    const Worker* waits = nullptr;
    for (unsigned t = 0; t < run->threads; t++) {
        const Worker* w = run->workers[t];
        if (w->state == State::at_mbarrier && (!waits || hopper().waits_for[t]->bytes)) waits = w;
    }
    if (!waits) return false;
    const Mbarrier& b = *hopper().waits_for[waits->linear];
    size_t n = 0;
    auto say = [&](auto... what) {
        n = std::min(n + size_t(std::snprintf(text + n, sizeof text - n, what...)), sizeof text - 1);
    };
    say("mbarrier_wait: phase %u of the barrier made in line %d never ends: %u of %u arrivals are missing", b.phase, b.made->line, b.missing,
        b.count);
    if (b.bytes > 0 && b.announced) say("; %lld more bytes were announced (line %d) than have landed", (long long)b.bytes, b.announced->line);
    if (b.bytes < 0) say("; %lld more bytes have landed than were announced", (long long)-b.bytes);
    // Where others wait in a circle.
    const Site* told = waits->site;
    for (unsigned t = 0; t < run->threads; t++) {
        const Worker* w = run->workers[t];
        if (w->state != State::at_mbarrier || w->site == waits->site || w->site == told) continue;
        told = w->site;
        say("; thread %u waits in line %d", t, told->line);
    }
    report(*run->fault, waits, waits->site, "%s", text);
    return true;
}

}  // namespace rallrec_host
