// Memory that ends where an unmapped page begins, so that the first access beyond it is caught at
// its line.
//
//   | page of no access | slack, 0xA5 .......... data | page of no access |
//                                                ^ ends at the page's end, up to alignment
//
// Global buffers and shared arrays are both kept so. Data are 0xFF at first: a NaN in every float
// format and -1 as an integer, so what nobody wrote does not pass for a number. Writes into slack
// or alignment bytes, which no page can catch, are found by their pattern at the end.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <sys/mman.h>

#include "runtime.h"

namespace rallrec_host {

namespace {

constexpr size_t kPage = 4096;
constexpr unsigned char kSlack = 0xA5, kFresh = 0xFF;

struct Area {
    char* base = nullptr;   // first usable page
    size_t mapped = 0;      // usable bytes
    char* data = nullptr;
    size_t bytes = 0;
    const char* label = "";
    int line = 0;

    bool holds(uintptr_t p) const {
        return p + kPage >= reinterpret_cast<uintptr_t>(base) && p < reinterpret_cast<uintptr_t>(base) + mapped + kPage;
    }
};

// Addresses of an earlier block are not used again under ThreadSanitizer: it would see races
// between blocks there.
Area map_area(size_t bytes, size_t align) {
    Area a;
    a.bytes = bytes;
    const size_t room = (bytes + align - 1) / align * align;
    a.mapped = std::max(kPage, (room + kPage - 1) / kPage * kPage);
    char* p = static_cast<char*>(
        mmap(nullptr, a.mapped + 2 * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (p == MAP_FAILED) return Area{};
    a.base = p + kPage;
    if (mprotect(a.base, a.mapped, PROT_READ | PROT_WRITE)) {
        munmap(p, a.mapped + 2 * kPage);
        return Area{};
    }
    a.data = a.base + a.mapped - room;
    return a;
}

void unmap_area(Area& a) {
    mark_usable(a.base, a.mapped);
    if (a.base) munmap(a.base - kPage, a.mapped + 2 * kPage);
    a = Area{};
}

void refresh(Area& a) {
    mark_usable(a.base, a.mapped);
    std::memset(a.base, kSlack, a.data - a.base);
    std::memset(a.data, kFresh, a.bytes);
    std::memset(a.data + a.bytes, kSlack, a.base + a.mapped - a.data - a.bytes);
    mark_unusable(a.base, a.data - a.base);
    mark_unusable(a.data + a.bytes, a.base + a.mapped - a.data - a.bytes);
}

// False and a text, where a byte beside the data was written.
__attribute__((no_sanitize("address", "thread"))) bool intact(const Area& a, char* text, size_t room) {
    auto overrun = [&](const char* from, const char* to) -> const char* {
        for (; from < to; from++)
            if (static_cast<unsigned char>(*from) != kSlack) return from;
        return nullptr;
    };
    // The 4 KiB next to the data are enough; a stray write farther off meets the page of no access.
    const char* low = std::max(a.base, a.data - 4096);
    if (const char* p = overrun(low, a.data)) {
        std::snprintf(text, room, "written %td bytes before the first of %zu bytes of %s", a.data - p, a.bytes, a.label);
        return false;
    }
    if (const char* p = overrun(a.data + a.bytes, a.base + a.mapped)) {
        std::snprintf(text, room, "written %td bytes beyond the last of %zu bytes of %s", p - a.data - a.bytes + 1, a.bytes,
                      a.label);
        return false;
    }
    return true;
}

void describe(const Area& a, const char* kind, uintptr_t address, char* text, size_t room) {
    const uintptr_t data = reinterpret_cast<uintptr_t>(a.data);
    char place[256] = "";
    if (a.line) std::snprintf(place, sizeof place, ", declared in line %d", a.line);
    if (address < data)
        std::snprintf(text, room, "out of bounds: %zu bytes before the first of %zu bytes of %s %s%s", size_t(data - address),
                      a.bytes, kind, a.label, place);
    else
        std::snprintf(text, room, "out of bounds: byte %zu of %s %s, which has %zu%s", size_t(address - data), kind, a.label,
                      a.bytes, place);
}

}  // namespace

// Shared memory of a block.
struct SharedVariable {
    const Site* site;
    Area area;
    bool live;
};
struct Shared {
    std::vector<SharedVariable> statics;
    Area dynamic;
    size_t dynamic_bytes;
};

Shared* new_shared() { return new Shared(); }

namespace {

Shared& shared() { return *run->shared; }

std::mutex global_lock;
std::map<uintptr_t, Area>& globals() {
    static auto* all = new std::map<uintptr_t, Area>;
    return *all;
}

const Area* shared_area(uintptr_t p) {
    if (shared().dynamic.base && shared().dynamic.holds(p)) return &shared().dynamic;
    for (SharedVariable& v : shared().statics)
        if (v.live && v.area.holds(p)) return &v.area;
    return nullptr;
}

}  // namespace

const Copy* copy_into(const void* p, size_t bytes) {
    const char *low = static_cast<const char*>(p), *high = low + bytes;
    for (unsigned t = 0; t < run->threads; t++)
        for (const Copy& c : run->workers[t]->copies)
            if (c.to < high && low < c.to + c.bytes) return &c;
    return nullptr;
}

bool is_shared(const void* p, size_t bytes) {
    const Area* area = shared_area(reinterpret_cast<uintptr_t>(p));
    const char* at = static_cast<const char*>(p);
    return area && at >= area->data && at + bytes <= area->data + area->bytes;
}

// Of the architecture in RALLREC_ARCHITECTURE: 80, 86, 89, or 90 and later. A KiB more is reserved.
size_t shared_limit() {
    static const size_t limit = [] {
        const char* asked = std::getenv("RALLREC_ARCHITECTURE");
        const int architecture = asked && *asked ? std::atoi(asked) : 90;
        return size_t(architecture >= 90 ? 227 : architecture == 86 || architecture == 89 ? 99 : 163) * 1024;
    }();
    return limit;
}

void begin_block(size_t dynamic_bytes) {
    for (SharedVariable& v : shared().statics) v.live = false;
    if (kThreadSanitizer) {
        shared().statics.clear();
        shared().dynamic = Area{};
    }
    if (dynamic_bytes != shared().dynamic_bytes || (dynamic_bytes && !shared().dynamic.base)) {
        unmap_area(shared().dynamic);
        if (dynamic_bytes) shared().dynamic = map_area(dynamic_bytes, 16);
        shared().dynamic.label = "dynamic shared memory";
        shared().dynamic_bytes = dynamic_bytes;
    }
    if (dynamic_bytes) refresh(shared().dynamic);
}

void end_block() {
    char text[256];
    for (const SharedVariable& v : shared().statics)
        if (v.live && !intact(v.area, text, sizeof text)) {
            report(*run->fault, nullptr, v.site, "out of bounds: %s", text);
            run->failed = true;
        }
    if (shared().dynamic.base && !intact(shared().dynamic, text, sizeof text)) {
        report(*run->fault, nullptr, nullptr, "out of bounds: %s", text);
        run->failed = true;
    }
}

void* shared_static(const Site* site, size_t bytes, size_t align) {
    Quiet quiet;
    SharedVariable* spare = nullptr;
    for (SharedVariable& v : shared().statics) {
        if (v.site != site) continue;
        if (v.live) return v.area.data;
        spare = &v;
    }
    if (!spare) {
        shared().statics.push_back({site, map_area(bytes, std::max<size_t>(align, 16)), false});
        spare = &shared().statics.back();
        if (!spare->area.base) fail(site, "no memory for %zu bytes of shared memory", bytes);
        spare->area.label = site->what;
        spare->area.line = site->line;
    }
    size_t all = shared().dynamic_bytes + bytes;
    for (const SharedVariable& v : shared().statics) all += v.live ? v.area.bytes : 0;
    if (all > shared_limit())
        fail(site, "%zu bytes of shared memory, %zu of them asked for at the launch; a block may have %zu KiB", all,
             shared().dynamic_bytes, shared_limit() / 1024);
    spare->live = true;
    refresh(spare->area);
    return spare->area.data;
}

void* shared_dynamic(const Site* site) {
    if (!shared().dynamic.base) fail(site, "the launch gives no dynamic shared memory");
    return shared().dynamic.data;
}

void* shared_aligned(const Site* site, size_t align) {
    void* p = shared_dynamic(site);
    if (reinterpret_cast<uintptr_t>(p) % align)
        fail(site, "%zu bytes of dynamic shared memory, which is to be aligned to %zu: the launch must give a multiple of that",
             shared().dynamic_bytes, align);
    return p;
}

// Where dynamic shared memory begins on a GPU, if static arrays stand before it: not at 0, and
// aligned as here.
constexpr uint32_t kDynamicAddress = 1024;

uint32_t shared_address(const void* p) {
    const char* at = static_cast<const char*>(p);
    const Area& a = shared().dynamic;
    if (!a.base || at < a.data || at >= a.data + a.bytes) fail(nullptr, "not an address of dynamic shared memory");
    return kDynamicAddress + uint32_t(at - a.data);
}

const char* shared_pointer(uint32_t address) { return shared().dynamic.data + (int64_t(address) - kDynamicAddress); }

void copy_async(const Site* site, void* to, const void* from, unsigned bytes, unsigned valid) {
    Quiet quiet;
    if (bytes != 4 && bytes != 8 && bytes != 16) fail(site, "an async copy moves 4, 8 or 16 bytes, not %u", bytes);
    if (reinterpret_cast<uintptr_t>(to) % bytes || (valid && reinterpret_cast<uintptr_t>(from) % bytes))
        fail(site, "an async copy of %u bytes is not aligned to them", bytes);
    char* p = static_cast<char*>(to);
    if (!is_shared(to, bytes)) fail(site, "an async copy writes outside the shared arrays");
    if (const Copy* c = copy_into(to, bytes))
        fail(site, "an async copy into where one is under way from line %d", c->site->line);
    std::memset(to, kFresh, bytes);
    mark_unusable(to, bytes);
    worker()->copies.push_back({p, static_cast<const char*>(from), bytes, std::min(valid, bytes), worker()->committed, site});
}

void copy_commit() { worker()->committed++; }

void copy_wait(const Site*, unsigned groups_left) {
    Quiet quiet;
    land_copies(*worker(), groups_left);
}

void land_copies(Worker& w, unsigned groups_left) {
    size_t kept = 0;
    for (Copy& c : w.copies) {
        // Groups are numbered as committed; what is not committed is not waited for.
        if (c.group >= w.committed || w.committed - c.group <= groups_left) {
            w.copies[kept++] = c;
            continue;
        }
        for (unsigned i = 0; i < c.bytes; i++)
            if (static_cast<unsigned char>(c.to[i]) != kFresh) {
                mark_usable(c.to, c.bytes);
                fail(c.site, "where this async copy goes was written before it landed");
            }
        mark_usable(c.to, c.bytes);
        {
            Heard heard;
            saw_read(c.from, c.valid);
            saw_write(c.to, c.bytes);
        }
        std::memcpy(c.to, c.from, c.valid);
        std::memset(c.to + c.valid, 0, c.bytes - c.valid);
    }
    w.copies.resize(kept);
}

void forget_copies(Worker& w) {
    for (Copy& c : w.copies) mark_usable(c.to, c.bytes);
    w.copies.clear();
}

void check_shared_read(const Site* site, const void* p, size_t bytes) {
    if (!is_shared(p, bytes)) fail(site, "%s reads %zu bytes outside the shared arrays", site->what, bytes);
    if (const Copy* c = copy_into(p, bytes))
        fail(site, "%s reads where an async copy from line %d has not landed", site->what, c->site->line);
    if (const Site* load = load_into(p, bytes)) fail(site, "%s reads where a TMA load from line %d has not landed", site->what, load->line);
    Heard heard;  // called within a meeting
    saw_read(p, bytes);
}

bool explain_address(uintptr_t address, char* text, size_t room) {
    if (const Area* a = shared_area(address)) {
        describe(*a, a == &shared().dynamic ? "" : "shared array", address, text, room);
        return true;
    }
    std::lock_guard<std::mutex> hold(global_lock);
    auto after = globals().upper_bound(address + kPage);
    if (after == globals().begin()) return false;
    const Area& a = std::prev(after)->second;
    if (!a.holds(address)) return false;
    describe(a, "buffer", address, text, room);
    return true;
}

bool global_canaries(const void* p, char* text, size_t room) {
    std::lock_guard<std::mutex> hold(global_lock);
    auto after = globals().upper_bound(reinterpret_cast<uintptr_t>(p));
    if (after == globals().begin()) return true;
    const Area& a = std::prev(after)->second;
    if (p < a.base || p > a.data + a.bytes) return true;
    return intact(a, text, room);
}

extern "C" {

// Null where there is no memory. `label` must outlive the buffer.
void* rallrec_host_alloc(size_t bytes, const char* label) {
    Area a = map_area(bytes, 16);
    if (!a.base) return nullptr;
    a.label = label;
    refresh(a);
    std::lock_guard<std::mutex> hold(global_lock);
    globals()[reinterpret_cast<uintptr_t>(a.base)] = a;
    return a.data;
}

void rallrec_host_free(void* p) {
    std::lock_guard<std::mutex> hold(global_lock);
    auto after = globals().upper_bound(reinterpret_cast<uintptr_t>(p));
    if (after == globals().begin()) return;
    auto at = std::prev(after);
    unmap_area(at->second);
    globals().erase(at);
}

}  // extern "C"

}  // namespace rallrec_host
