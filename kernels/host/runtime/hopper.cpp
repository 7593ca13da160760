// What sm_90 adds: barriers in shared memory that count arrivals and bytes (mbarrier), tiles of a described matrix (TMA), and products
// of a warpgroup (wgmma). As the PTX manual describes them; chapters: "mbarrier", "cp.async.bulk.tensor", "wgmma".
//
// All of it is asynchronous, and here as late as the manual allows, in the order of the seed:
// - a tile lands some time after it was asked for, at the latest when nobody can go on; where it will land is NaN until then;
// - a product is made when a warp waits for it, from what shared memory holds *then*, for the 16 rows of this warp alone; until then
//   the accumulators are NaN. Its operands must have landed when it is issued, and must not have changed when it is made.
#include <algorithm>
#include <array>
#include <memory>

#include "runtime.h"

namespace rallrec_host {

namespace {

constexpr unsigned char kFresh = 0xFF;
constexpr uint64_t kBarrierTag = 0x6d62617200000000ull;  // what a barrier's word holds: this and its number
constexpr uint64_t kMapTag = 0x70616d20616d7472ull;
constexpr int64_t kMostBytes = (1 << 20) - 1;

struct Mbarrier {
    uint64_t* at;
    const Site *made, *announced;
    unsigned count, missing, phase;
    int64_t bytes;       // announced and not landed
    unsigned passed[8];  // phases that somebody of each warpgroup has waited for
    char keys[2];        // of phases with even and odd numbers, for ThreadSanitizer
};

// A descriptor of the host build, 128 bytes as the driver's; made by `rallrec_kernels_host::TensorMap`.
struct TensorMap {
    uint64_t tag, address, columns, rows, stride;
    uint32_t box_columns, box_rows;
    uint64_t rest[10];
};
static_assert(sizeof(TensorMap) == 128, "as large as the driver's");

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
    bool fenced[1024];
    const Mbarrier* waits_for[1024];
    uint64_t haste = 1;
};
thread_local Hopper hopper;

// The 16-byte chunks of eight lines of 128 bytes change places: bits 4..6 of an address are XORed with its bits 7..9.
template <class A> A swizzle(A address) { return address ^ (address >> 3 & 0x70); }

Mbarrier& find(const Site* site, uint64_t* barrier) {
    if (!is_shared(barrier, 8) || reinterpret_cast<uintptr_t>(barrier) % 8)
        fail(site, "%s: a barrier is an aligned 8-byte word of shared memory", site->what);
    const uint64_t number = *barrier - kBarrierTag;
    if (number >= hopper.barrier_count || hopper.barriers[number].at != barrier)
        fail(site, "%s: no mbarrier_init was here, or the barrier's word was written since", site->what);
    {
        Heard heard;
        saw_read(barrier, 8);
    }
    return hopper.barriers[number];
}

// Ends the phase if nothing is missing.
void settle(Mbarrier& b) {
    if (b.missing || b.bytes) return;
    b.phase++;
    b.missing = b.count;
    for (unsigned t = 0; t < run->threads; t++)
        if (run->workers[t]->state == State::at_mbarrier && hopper.waits_for[t] == &b) make_ready(t);
}

// Waits until every thread of the warpgroup is at `site`; true for the last of them.
bool gather(const Site* site, uint64_t a, uint64_t b, Accumulators* acc) {
    Worker* me = worker();
    const unsigned group = me->linear / 128;
    Party& party = hopper.parties[group];
    if (run->threads < 128 * (group + 1))
        fail(site, "%s needs a whole warpgroup; thread %u is in one of %u threads", site->what, me->linear, run->threads % 128);
    if (!party.arrived) {
        party.site = site;
        party.a = a, party.b = b;
    }
    if (party.site != site)
        fail(site, "threads of a warpgroup disagree: thread %u is in %s, while %u wait in %s at %s:%d", me->linear, site->what,
             party.arrived, party.site->what, party.site->file, party.site->line);
    if (party.a != a || party.b != b) fail(site, "%s: threads of a warpgroup bring different descriptors", site->what);
    party.acc[me->linear % 128] = acc;
    if (++party.arrived < 128) {
        wait(State::at_warpgroup, site);
        return false;
    }
    party.arrived = 0;
    for (unsigned t = 128 * group; t < 128 * (group + 1); t++)
        if (t != me->linear) make_ready(t);
    return true;
}

// Whether nobody wrote there. A tile may bring such bytes: they are a NaN.
bool is_fresh(const char* p, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        if (static_cast<unsigned char>(p[i]) != kFresh) return false;
    return std::none_of(hopper.tiles.begin(), hopper.tiles.end(), [&](const Tile& t) { return p >= t.low && p < t.high; });
}

// Reads an operand through its descriptor: `rows` x 16 values, and between which addresses they lie.
//
// In values of 16 bits, before the swizzle:   K-major    row / 8 * stride + row % 8 * 64 + k
//                                             MN-major   row / 64 * leading + row % 64 + k / 8 * stride + k % 8 * 64
void read(const Site* site, const Operand& o, unsigned first, unsigned count, uint16_t (*out)[16], const char** low,
          const char** high, bool heard) {
    const uint64_t d = o.descriptor;
    const uint32_t start = uint32_t(d & 0x3fff) << 4, leading = uint32_t(d >> 16 & 0x3fff) << 4,
                   stride = uint32_t(d >> 32 & 0x3fff) << 4;
    if (d >> 62 != 1 || (d >> 49 & 7))
        fail(site, "%s: the host build knows operands with a swizzle of 128 bytes and without a base offset", site->what);
    auto chunk = [&](uint32_t offset) {
        const char* p = shared_pointer(swizzle((start + offset) & 0x3ffff));
        if (!is_shared(p, 16)) fail(site, "%s reads an operand outside the shared arrays", site->what);
        if (heard) {
            Heard now;
            saw_read(p, 16);
        }
        if (low) {
            *low = std::min(*low, p), *high = std::max(*high, p + 16);
            if (const Site* load = load_into(p, 16))
                fail(site, "%s reads where a TMA load from line %d has not landed", site->what, load->line);
            if (is_fresh(p, 16)) fail(site, "%s reads shared memory that nobody has written, or not yet", site->what);
        }
        return p;
    };
    if (!o.turned)
        for (unsigned i = 0; i < count; i++)
            for (unsigned k = 0; k < 16; k += 8)
                std::memcpy(&out[i][k], chunk((first + i) / 8 * stride + (first + i) % 8 * 128 + 2 * k), 16);
    else
        for (unsigned i = 0; i < count; i += 8)
            for (unsigned k = 0; k < 16; k++) {
                uint16_t eight[8];
                std::memcpy(eight, chunk((first + i) / 64 * leading + (first + i) % 64 * 2 + k / 8 * stride + k % 8 * 128), 16);
                for (unsigned l = 0; l < 8; l++) out[i + l][k] = eight[l];
            }
}

float of_bf16(uint16_t h) { return __uint_as_float(unsigned(h) << 16); }

// The 16 rows of warp `quarter`. Fragment of the result: value 4 j + c of lane l is row l / 4 + 8 (c / 2), column 8 j + 2 (l % 4) + c % 2.
void make(Product& p, unsigned quarter) {
    static thread_local uint16_t left[16][16], right[128][16];
    static thread_local float a[16][16], b[16][128], sum[16][128];
    read(p.site, p.left, 16 * quarter, 16, left, nullptr, nullptr, true);
    read(p.site, p.right, 0, 128, right, nullptr, nullptr, true);
    if (std::memcmp(left, p.values[16 * quarter], sizeof left) || std::memcmp(right, p.values[64], sizeof right))
        fail(p.site, "the operands of the wgmma in line %d were written before it was done", p.site->line);
    for (unsigned k = 0; k < 16; k++) {
        for (unsigned i = 0; i < 16; i++) a[i][k] = of_bf16(left[i][k]);
        for (unsigned j = 0; j < 128; j++) b[k][j] = of_bf16(right[j][k]);
    }
    auto each = [&](auto what) {
        for (unsigned lane = 0; lane < 32; lane++)
            for (unsigned v = 0; v < 64; v++)
                what(sum[lane / 4 + 8 * (v / 2 % 2)][v / 4 * 8 + 2 * (lane % 4) + v % 2], *p.acc[32 * quarter + lane], v);
    };
    each([](float& s, Accumulators& acc, unsigned v) { s = acc.held[v]; });
    for (unsigned i = 0; i < 16; i++)
        for (unsigned k = 0; k < 16; k++)
            for (unsigned j = 0; j < 128; j++) sum[i][j] += a[i][k] * b[k][j];
    each([](float& s, Accumulators& acc, unsigned v) { acc.held[v] = s; });
    for (unsigned lane = 0; lane < 32; lane++) {
        Accumulators& acc = *p.acc[32 * quarter + lane];
        if (--acc.under_way == 0) std::memcpy(acc.v, acc.held, sizeof acc.v);
    }
    p.done |= 1u << quarter;
}

// The last lane of a warp to arrive makes the products of all groups but the newest `left`.
void make_groups(Slots& slots, const Site* site) {
    const unsigned warp = worker()->warp;
    if (slots.mask != ~0u) fail(site, "%s needs the whole warp", site->what);
    const unsigned left = unsigned(slots.get<int>(0)), committed = hopper.committed[warp];
    for (auto& p : hopper.products) {
        if (p->warpgroup != warp / 4 || p->done >> warp % 4 & 1) continue;
        const unsigned group = p->group[warp % 4];
        if (group < committed && committed - group > left) make(*p, warp % 4);
    }
    for (size_t i = 0; i < hopper.products.size();) {
        if (hopper.products[i]->done != 15) {
            i++;
            continue;
        }
        hopper.spare.push_back(std::move(hopper.products[i]));
        hopper.products.erase(hopper.products.begin() + i);
    }
    order_release(&hopper.warp_keys[warp]);
}

void commit_group(Slots&, const Site*) { hopper.committed[worker()->warp]++; }

const Product* product_of(const void* p, size_t bytes) {
    const char *low = static_cast<const char*>(p), *high = low + bytes;
    for (auto& product : hopper.products)
        for (int i = 0; i < 2; i++)
            if (product->low[i] < high && low < product->high[i]) return product.get();
    return nullptr;
}

void land(size_t index) {
    Load load = std::move(hopper.loads[index]);
    hopper.loads.erase(hopper.loads.begin() + index);
    mark_usable(load.to, load.bytes.size());
    for (size_t i = 0; i < load.bytes.size(); i++)
        if (static_cast<unsigned char>(load.to[i]) != kFresh) {
            report(*run->fault, nullptr, load.site, "where this TMA load goes was written before it landed");
            run->failed = true;
            return;
        }
    std::memcpy(load.to, load.bytes.data(), load.bytes.size());
    hopper.tiles.push_back({load.to, load.to + load.bytes.size(), load.barrier, load.barrier->phase, load.site});
    load.barrier->bytes -= int64_t(load.bytes.size());
    settle(*load.barrier);
}

}  // namespace

void mbarrier_init(const Site* site, uint64_t* barrier, uint32_t arrivals) {
    Quiet quiet;
    if (!is_shared(barrier, 8) || reinterpret_cast<uintptr_t>(barrier) % 8)
        fail(site, "%s: a barrier is an aligned 8-byte word of shared memory", site->what);
    if (!arrivals || arrivals > kMostBytes) fail(site, "%s: %u arrivals", site->what, arrivals);
    if (hopper.barrier_count == hopper.barriers.size()) fail(site, "more than %zu barriers", hopper.barriers.size());
    {
        Heard heard;
        saw_write(barrier, 8);
    }
    *barrier = kBarrierTag + hopper.barrier_count;
    hopper.barriers[hopper.barrier_count++] = {barrier, site, nullptr, arrivals, arrivals, 0, 0, {}, {}};
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
        hopper.waits_for[self->linear] = &b;
        wait(State::at_mbarrier, site);
    }
    b.passed[self->linear / 128] = b.phase;
    order_acquire(&b.keys[parity % 2]);
}

void tma_load(const Site* site, void* to, const void* map, uint64_t* barrier, uint32_t x, uint32_t y) {
    Quiet quiet;
    Mbarrier& b = find(site, barrier);
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
    auto& tiles = hopper.tiles;
    const char *low = load.to, *high = low + bytes;
    tiles.erase(std::remove_if(tiles.begin(), tiles.end(), [&](const Tile& t) { return t.low < high && low < t.high; }), tiles.end());
    std::memset(to, kFresh, bytes);
    mark_unusable(to, bytes);
    order_release(&b.keys[b.phase % 2]);  // whoever sees this phase end sees the tile
    hopper.loads.push_back(std::move(load));
}

void set_registers(const Site* site, int count) {
    Quiet quiet;
    if (count < 24 || count > 256 || count % 8) fail(site, "%s: %d registers", site->what, count);
    gather(site, 0, 0, nullptr);
}

void wgmma_fence(const Site* site) {
    Quiet quiet;
    leave(meet(site, ~0u, "", 1, nullptr, false));
    hopper.fenced[self->linear] = true;
}

void wgmma(const Site* site, Accumulators& acc, uint64_t a, uint64_t b, bool turned) {
    Quiet quiet;
    const unsigned thread = self->linear;
    if (!acc.under_way && !hopper.fenced[thread]) fail(site, "%s: no wgmma_fence since others touched the accumulators", site->what);
    if (!gather(site, a, b, &acc)) return;
    if (hopper.spare.empty()) hopper.spare.push_back(std::make_unique<Product>());
    std::unique_ptr<Product> p = std::move(hopper.spare.back());
    hopper.spare.pop_back();
    p->site = site;
    p->left = {a, false, 64};
    p->right = {b, turned, 128};
    p->warpgroup = thread / 128;
    p->done = 0;
    const Operand* operands[2] = {&p->left, &p->right};
    for (int i = 0; i < 2; i++) {
        p->low[i] = reinterpret_cast<const char*>(UINTPTR_MAX);
        p->high[i] = nullptr;
        read(site, *operands[i], 0, operands[i]->rows, p->values + 64 * i, &p->low[i], &p->high[i], false);
        if (const Copy* c = copy_into(p->low[i], size_t(p->high[i] - p->low[i])))
            fail(site, "%s reads where an async copy from line %d has not landed", site->what, c->site->line);
        for (const Tile& t : hopper.tiles)
            if (t.low < p->high[i] && p->low[i] < t.high && t.barrier->passed[p->warpgroup] <= t.phase)
                fail(site, "%s reads a tile (line %d) whose barrier nobody of its warpgroup has waited for", site->what, t.site->line);
    }
    for (unsigned w = 0; w < 4; w++) p->group[w] = hopper.committed[4 * p->warpgroup + w];
    for (unsigned t = 0; t < 128; t++) {
        Accumulators& each = *hopper.parties[p->warpgroup].acc[t];
        p->acc[t] = &each;
        if (each.under_way++) continue;
        std::memcpy(each.held, each.v, sizeof each.v);
        std::memset(each.v, kFresh, sizeof each.v);
    }
    hopper.products.push_back(std::move(p));
}

void wgmma_commit(const Site* site) {
    Quiet quiet;
    leave(meet(site, ~0u, "", 1, commit_group, false));
}

void wgmma_wait_groups(const Site* site, int left) {
    Quiet quiet;
    leave(meet(site, ~0u, &left, sizeof left, make_groups, false));
    order_acquire(&hopper.warp_keys[worker()->warp]);
    hopper.fenced[self->linear] = false;
}

void hopper_begin_block() {
    for (Load& load : hopper.loads) mark_usable(load.to, load.bytes.size());
    hopper.loads.clear();
    hopper.tiles.clear();
    while (!hopper.products.empty()) {
        hopper.spare.push_back(std::move(hopper.products.back()));
        hopper.products.pop_back();
    }
    hopper.barrier_count = 0;
    for (Party& party : hopper.parties) party.arrived = 0;
    std::fill(std::begin(hopper.committed), std::end(hopper.committed), 0);
    std::fill(std::begin(hopper.fenced), std::end(hopper.fenced), false);
    hopper.haste = uint64_t(1) << run->random % 10;
}

void hopper_end_thread() {
    const unsigned warp = worker()->warp;
    for (auto& p : hopper.products)
        if (p->warpgroup == warp / 4 && !(p->done >> warp % 4 & 1))
            fail(p->site, "the thread ends while its wgmma is under way; nobody waits for it");
}

void hopper_end_block() {
    auto says = [](const Site* site, auto... text) {
        report(*run->fault, nullptr, site, text...);
        run->failed = true;
    };
    if (!hopper.loads.empty()) says(hopper.loads[0].site, "the block ends while this TMA load is under way; nobody waits for it");
    for (unsigned i = 0; i < hopper.barrier_count && !run->failed; i++) {
        const Mbarrier& b = hopper.barriers[i];
        if (b.bytes > 0) says(b.announced, "the block ends, and %lld of the bytes announced here have not landed", (long long)b.bytes);
        if (b.bytes < 0) says(b.announced ? b.announced : b.made, "%lld bytes more have landed than were announced", (long long)-b.bytes);
    }
}

void hopper_barrier() {
    for (unsigned i = 0; i < hopper.barrier_count; i++) {
        auto& passed = hopper.barriers[i].passed;
        std::fill(std::begin(passed), std::end(passed), *std::max_element(std::begin(passed), std::end(passed)));
    }
}

bool land_some_load(bool must) {
    if (hopper.loads.empty() || (!must && next_random() % hopper.haste)) return false;
    land(next_random() % hopper.loads.size());
    return true;
}

const Site* load_into(const void* p, size_t bytes) {
    const char *low = static_cast<const char*>(p), *high = low + bytes;
    for (const Load& load : hopper.loads)
        if (load.to < high && low < load.to + load.bytes.size()) return load.site;
    return nullptr;
}

bool explain_hopper_deadlock() {
    char text[512];
    for (unsigned g = 0; g < 8; g++) {
        const Party& party = hopper.parties[g];
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
        if (w->state == State::at_mbarrier && (!waits || hopper.waits_for[t]->bytes)) waits = w;
    }
    if (!waits) return false;
    const Mbarrier& b = *hopper.waits_for[waits->linear];
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
