// Products of a warpgroup (wgmma) and its registers; see hopper.cpp.
#include <algorithm>

#include "hopper.h"
#include "rounding.h"

namespace rallrec_host {

namespace {

// Waits until every thread of the warpgroup is at `site`; true for the last of them.
bool gather(const Site* site, uint64_t a, uint64_t b, Accumulators* acc) {
    Worker* me = worker();
    const unsigned group = me->linear / 128;
    Party& party = hopper().parties[group];
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
    return std::none_of(hopper().tiles.begin(), hopper().tiles.end(), [&](const Tile& t) { return p >= t.low && p < t.high; });
}

// Reads an operand through its descriptor: `rows` x 16 values, and between which addresses they
// lie.
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

// The 16 rows of warp `quarter`. Fragment of the result: value 4 j + c of lane l is row l / 4 + 8
// (c / 2), column 8 j + 2 (l % 4) + c % 2.
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
    for (unsigned i = 0; i < 16; i++) add_products(sum[i], a[i], b[0], 16, 128, 128);
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
    const unsigned left = unsigned(slots.get<int>(0)), committed = hopper().committed[warp];
    for (auto& p : hopper().products) {
        if (p->warpgroup != warp / 4 || p->done >> warp % 4 & 1) continue;
        const unsigned group = p->group[warp % 4];
        if (group < committed && committed - group > left) make(*p, warp % 4);
    }
    for (size_t i = 0; i < hopper().products.size();) {
        if (hopper().products[i]->done != 15) {
            i++;
            continue;
        }
        hopper().spare.push_back(std::move(hopper().products[i]));
        hopper().products.erase(hopper().products.begin() + i);
    }
    order_release(&hopper().warp_keys[warp]);
}

void commit_group(Slots&, const Site*) { hopper().committed[worker()->warp]++; }

}  // namespace

const Product* product_of(const void* p, size_t bytes) {
    const char *low = static_cast<const char*>(p), *high = low + bytes;
    for (auto& product : hopper().products)
        for (int i = 0; i < 2; i++)
            if (product->low[i] < high && low < product->high[i]) return product.get();
    return nullptr;
}

void set_registers(const Site* site, int count) {
    Quiet quiet;
    if (count < 24 || count > 256 || count % 8) fail(site, "%s: %d registers", site->what, count);
    leave(meet(site, ~0u, "", 1, nullptr, false));
    Worker* me = worker();
    if (me->lane() == 0) {
        // More are taken from what others gave back, and waited for.
        const int more = 32 * (count - hopper().registers[me->warp]);
        while (more > hopper().spare_registers) wait(State::at_registers, site);
        hopper().spare_registers -= more;
        hopper().registers[me->warp] = count;
        hopper().registers_site = site;
        for (unsigned t = 0; t < run->threads; t++)
            if (run->workers[t]->state == State::at_registers) make_ready(t);
    }
    leave(meet(site, ~0u, "", 1, nullptr, false));
}

void wgmma_fence(const Site* site) {
    Quiet quiet;
    leave(meet(site, ~0u, "", 1, nullptr, false));
    hopper().fenced[self->linear] = true;
}

void wgmma(const Site* site, Accumulators& acc, uint64_t a, uint64_t b, bool turned) {
    Quiet quiet;
    const unsigned thread = self->linear;
    if (!acc.under_way && !hopper().fenced[thread]) fail(site, "%s: no wgmma_fence since others touched the accumulators", site->what);
    if (!gather(site, a, b, &acc)) return;
    if (hopper().spare.empty()) hopper().spare.push_back(std::make_unique<Product>());
    std::unique_ptr<Product> p = std::move(hopper().spare.back());
    hopper().spare.pop_back();
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
        for (const Tile& t : hopper().tiles)
            if (t.low < p->high[i] && p->low[i] < t.high && t.barrier->passed[p->warpgroup] <= t.phase)
                fail(site, "%s reads a tile (line %d) whose barrier nobody of its warpgroup has waited for", site->what, t.site->line);
    }
    for (unsigned w = 0; w < 4; w++) p->group[w] = hopper().committed[4 * p->warpgroup + w];
    for (unsigned t = 0; t < 128; t++) {
        Accumulators& each = *hopper().parties[p->warpgroup].acc[t];
        p->acc[t] = &each;
        if (each.under_way++) continue;
        std::memcpy(each.held, each.v, sizeof each.v);
        std::memset(each.v, kFresh, sizeof each.v);
    }
    hopper().products.push_back(std::move(p));
}

void wgmma_commit(const Site* site) {
    Quiet quiet;
    leave(meet(site, ~0u, "", 1, commit_group, false));
}

void wgmma_wait_groups(const Site* site, int left) {
    Quiet quiet;
    leave(meet(site, ~0u, &left, sizeof left, make_groups, false));
    order_acquire(&hopper().warp_keys[worker()->warp]);
    hopper().fenced[self->linear] = false;
}

void hopper_end_thread() {
    const unsigned warp = worker()->warp;
    for (auto& p : hopper().products)
        if (p->warpgroup == warp / 4 && !(p->done >> warp % 4 & 1))
            fail(p->site, "the thread ends while its wgmma is under way; nobody waits for it");
}

}  // namespace rallrec_host
