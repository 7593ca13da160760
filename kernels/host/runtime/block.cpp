// Runs a grid: blocks in random order, two at a time in turns, the threads of a block as fibers in
// random order.
#include <algorithm>
#include <cstdlib>
#include <new>
#include <numeric>
#include <string>
#include <sys/mman.h>

#include "runtime.h"

namespace rallrec_host {

__thread Thread* self = nullptr;
__thread Run* run = nullptr;

uint64_t next_random() {
    uint64_t x = run->random;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return run->random = x;
}

void make_ready(unsigned thread) {
    run->workers[thread]->state = State::ready;
    (thread / 32 == run->starved ? run->held : run->ready).push_back(thread);
}

void wait(State state, const Site* site) {
    Worker* me = worker();
    me->state = state;
    me->site = site;
    suspend(me->fiber);
    self = me;
}

void yield() {
    Worker* me = worker();
    make_ready(me->linear);
    suspend(me->fiber);
    self = me;
}

const char* where(const Worker& w, char* text, size_t bytes) {
    if (w.state == State::ended)
        std::snprintf(text, bytes, "has ended");
    else if (w.state == State::ready)
        std::snprintf(text, bytes, "is on its way");
    else
        std::snprintf(text, bytes, "waits in %s at %s:%d", w.site->what, w.site->file, w.site->line);
    return text;
}

namespace {

Kernel* kernels = nullptr;
Layout* layouts = nullptr;
Constant* constants = nullptr;
unsigned enlisting = 0, last_set = 0;  // what registers now belongs to this set

// Not from the heap: a sanitiser takes its handing out for a write.
Meeting* new_meeting() {
    static_assert(sizeof(Meeting) <= 4096, "a page holds it");
    void* p = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) no_memory("a barrier");
    return new (p) Meeting;
}

void thread_main() {
    entered();
    Worker* me = worker();
    order_acquire(run->grid_key);
    run->call(run->request->args);
    me = worker();
    if (!me->copies.empty())
        fail(me->copies.back().site, "the thread ends while its async copy is under way; nobody waits for it");
    hopper_end_thread();
    order_release(run->grid_key);
    me->state = State::ended;
    run->ended++;
    retire(me->fiber);
}

// Nobody can go on: says who waits for whom.
void explain_deadlock() {
    if (explain_registers()) return;
    char text[512];
    for (unsigned w = 0; w < run->warps.size(); w++)
        for (Meeting* m : run->warps[w].meetings) {
            if (!m->open) continue;
            unsigned missing = m->slots.mask & ~m->arrived;
            unsigned lane = __builtin_ctz(missing), thread = w * 32 + lane;
            const Worker* first = run->workers[w * 32 + __builtin_ctz(m->arrived)];
            if (thread >= run->threads)
                std::snprintf(text, sizeof text, "is not part of the block");
            else
                where(*run->workers[thread], text, sizeof text);
            report(*run->fault, first, m->site,
                   "%s: %d of the %d lanes in mask %08x arrive; lane %u %s", m->site->what,
                   __builtin_popcount(m->arrived), __builtin_popcount(m->slots.mask), m->slots.mask, lane, text);
            return;
        }
    if (explain_hopper_deadlock()) return;
    const Worker *waits = nullptr, *other = nullptr;
    for (unsigned t = 0; t < run->threads; t++) {
        const Worker* w = run->workers[t];
        if (w->state == State::at_barrier && !waits) waits = w;
        if (w->state != State::at_barrier && !other) other = w;
    }
    report(*run->fault, waits, waits->site, "barrier not reached by all: %u of %u threads wait here; thread %u %s",
           run->at_barrier, run->threads, other->linear, where(*other, text, sizeof text));
}

// Puts a block's threads at their beginning.
void start_block(unsigned index) {
    const Request& q = *run->request;
    const Dim grid = {q.grid[0], q.grid[1], q.grid[2]}, block = {q.block[0], q.block[1], q.block[2]};
    const Dim at = {index % grid.x, index / grid.x % grid.y, index / grid.x / grid.y};
    begin_block(q.shared_bytes);
    hopper_begin_block();
    run->ready.clear();
    run->held.clear();
    // A fair order is kind to a missing barrier: until a warp has met three times, every other has
    // run as well. So in most blocks one warp is left waiting for as long as any other can go on.
    const unsigned warps = (run->threads + 31) / 32;
    run->starved = warps > 1 && next_random() % 4 ? next_random() % warps : ~0u;
    run->at_barrier = run->counted = run->ended = 0;
    run->warps.resize((run->threads + 31) / 32);
    for (Warp& warp : run->warps) {
        for (Meeting* m : warp.meetings) run->spare.push_back(m);
        warp.meetings.clear();
    }
    // Which fiber plays which thread changes from block to block, so that a sanitiser does not take
    // two blocks' threads of one number for one thread.
    std::vector<unsigned> deal(run->threads);
    std::iota(deal.begin(), deal.end(), 0u);
    if (kThreadSanitizer)
        for (unsigned i = run->threads; i > 1; i--)
            std::swap(run->workers[i - 1], run->workers[next_random() % i]);
    for (unsigned t = 0; t < run->threads; t++) {
        Worker& w = *run->workers[t];
        w.thread = {t % block.x, t / block.x % block.y, t / block.x / block.y};
        w.block = at;
        w.block_dim = block;
        w.grid_dim = grid;
        w.linear = t;
        w.warp = t / 32;
        forget_copies(w);
        w.committed = 0;
        prepare(w.fiber, thread_main);
        make_ready(t);
    }
}

// Lets one thread of the block go on. True where the block has ended, or failed.
bool step_block() {
    const bool nobody = run->ready.empty() && run->held.empty();
    if (land_some_load(nobody)) return run->failed;
    if (nobody) {
        explain_deadlock();
        return run->failed = true;
    }
    // Now and then the starved warp goes on all the same: others may wait for it in a loop.
    const bool held = run->ready.empty() || (!run->held.empty() && next_random() % 256 == 0);
    std::vector<unsigned>& from = held ? run->held : run->ready;
    unsigned& pick = from[(next_random() >> 32) * from.size() >> 32];
    const unsigned thread = pick;
    pick = from.back();
    from.pop_back();
    self = run->workers[thread];
    resume(run->workers[thread]->fiber);
    if (run->failed) return true;
    if (run->ended < run->threads) return false;
    hopper_end_block();
    end_block();
    return true;
}

// Blocks of a launch that take turns, so that what one leaves in memory for another is seen half
// done, as on a GPU. ThreadSanitizer counts fibers: one at a time there.
constexpr unsigned kTogether = kThreadSanitizer ? 1 : 2;

Run* new_run() {
    Run* run = new Run;
    run->shared = new_shared();
    run->hopper = new_hopper();
    return run;
}

// The blocks of an OS thread. Their stacks are kept between launches and go with the thread: a
// process may have some 65,000 mappings, and a stack with its guard is two.
struct Kept {
    Run* blocks[kTogether] = {};
    ~Kept() {
        for (Run* block : blocks) {
            if (!block) continue;
            for (Worker* worker : block->workers) release(worker->fiber);
        }
    }
};

// Runs all blocks, in this order. On the way out `run` is the block that failed, if one did.
void run_blocks(const std::vector<unsigned>& order, Run** all) {
    size_t next = 0;
    std::vector<Run*> busy;
    auto start = [&](Run* block) {
        run = block;
        start_block(order[next++]);
    };
    while (busy.size() < kTogether && next < order.size()) {
        busy.push_back(all[busy.size()]);
        start(busy.back());
    }
    size_t turn = 0;
    while (!busy.empty()) {
        run = busy[turn % busy.size()];
        if (step_block()) {
            if (run->failed) return;
            if (next < order.size())
                start(run);
            else
                busy.erase(std::find(busy.begin(), busy.end(), run));
        }
        // Long turns, so that caches stay warm, and short ones.
        if (next_random() % 16 == 0) turn++;
    }
}

// The kernel of a set; where the set has none of the name, the program's own.
const Kernel* find(const char* name, unsigned set) {
    const Kernel* own = nullptr;
    for (const Kernel* k = kernels; k; k = k->next) {
        if ((k->set != set && k->set != 0) || std::strcmp(k->name, name)) continue;
        if (k->set == set) return k;
        own = k;
    }
    return own;
}

void launch(const Request& q, Run** all) {
    Fault& fault = *run->fault;
    auto refuse = [&](auto... args) {
        report(fault, nullptr, nullptr, args...);
        run->failed = true;
    };
    const Kernel* kernel = find(q.kernel, q.set);
    if (!kernel) return refuse("no kernel of this name");
    const uint64_t threads = uint64_t(q.block[0]) * q.block[1] * q.block[2];
    const uint64_t blocks = uint64_t(q.grid[0]) * q.grid[1] * q.grid[2];
    if (threads < 1 || threads > 1024 || threads > kernel->max_threads)
        return refuse("%llu threads a block; the kernel takes 1 to %u", (unsigned long long)threads, kernel->max_threads);
    if (!blocks || q.grid[1] > 65535 || q.grid[2] > 65535 || q.grid[0] > 0x7fffffff)
        return refuse("a grid of %u x %u x %u cannot be launched", q.grid[0], q.grid[1], q.grid[2]);
    if (q.shared_bytes > shared_limit())
        return refuse("%zu bytes of shared memory; %zu KiB is the most", q.shared_bytes, shared_limit() / 1024);
    if (q.arg_count != kernel->count) return refuse("%u arguments; the kernel takes %u", q.arg_count, kernel->count);
    for (unsigned i = 0; i < q.arg_count; i++)
        if (q.arg_sizes[i] != kernel->sizes[i])
            return refuse("argument %u has %zu bytes; the kernel takes %zu there", i, q.arg_sizes[i], kernel->sizes[i]);
    for (unsigned i = 0; i < kTogether; i++) {
        Run& block = *all[i];
        block.call = kernel->call;
        block.threads = unsigned(threads);
        while (block.workers.size() < threads && (!i || blocks > 1)) block.workers.push_back(new Worker);
        block.random = ((q.seed + 1) * 0x9E3779B97F4A7C15ull | 1) ^ uint64_t(i) << 40;
    }
    std::vector<unsigned> order(blocks);
    std::iota(order.begin(), order.end(), 0u);
    for (size_t i = order.size(); i > 1; i--) std::swap(order[i - 1], order[next_random() % i]);
    order_release(run->grid_key);
    run_blocks(order, all);
    if (run->failed) return;
    order_acquire(run->grid_key);
    for (unsigned i = 0; i < q.arg_count; i++) {
        void* p;
        if (q.arg_sizes[i] != sizeof p) continue;
        std::memcpy(&p, q.args[i], sizeof p);
        char text[256];
        if (!global_canaries(p, text, sizeof text)) return refuse("argument %u: %s", i, text);
    }
}

}  // namespace

void enlist(Kernel* kernel) {
    kernel->set = enlisting;
    kernel->next = kernels;
    kernels = kernel;
}

void enlist_layout(Layout* layout) {
    layout->set = enlisting;
    layout->next = layouts;
    layouts = layout;
}

void enlist_constant(Constant* constant) {
    constant->set = enlisting;
    constant->next = constants;
    constants = constant;
}

Slots* meet(const Site* site, unsigned mask, const void* value, size_t bytes, Finish finish, bool orders) {
    Quiet quiet;
    Worker* me = worker();
    const unsigned lane = me->lane();
    Warp& warp = run->warps[me->warp];
    if (!(mask >> lane & 1)) fail(site, "%s: lane %u calls it with the mask %08x, in which it is not", site->what, lane, mask);
    Meeting* m = nullptr;
    for (Meeting* open : warp.meetings) {
        if (!open->open || !(open->slots.mask & mask)) continue;
        if (open->site != site || open->slots.mask != mask) {
            unsigned other = __builtin_ctz(open->arrived);
            fail(site, "lanes of a warp disagree: lane %u is in %s with mask %08x, while lane %u waits in %s at %s:%d with mask %08x",
                 lane, site->what, mask, other, open->site->what, open->site->file, open->site->line, open->slots.mask);
        }
        m = open;
        break;
    }
    if (!m) {
        if (run->spare.empty()) {
            m = new_meeting();
        } else {
            m = run->spare.back();
            run->spare.pop_back();
        }
        m->site = site;
        m->slots.mask = mask;
        m->arrived = m->left = 0;
        m->open = true;
        warp.meetings.push_back(m);
    }
    std::memcpy(m->slots.of[lane], value, bytes);
    m->arrived |= 1u << lane;
    if (orders) order_release(m);
    if (m->arrived != mask) {
        wait(State::at_warp, site);
    } else {
        m->open = false;
        if (finish) finish(m->slots, site);
        for (unsigned rest = mask & ~(1u << lane); rest; rest &= rest - 1) make_ready(me->warp * 32 + __builtin_ctz(rest));
    }
    if (orders) order_acquire(m);
    return &m->slots;
}

void leave(Slots* slots) {
    Quiet quiet;
    Meeting* m = reinterpret_cast<Meeting*>(slots);  // its first member
    m->left |= 1u << self->lane();
    if (m->left != m->slots.mask) return;
    auto& all = run->warps[worker()->warp].meetings;
    all.erase(std::find(all.begin(), all.end(), m));
    run->spare.push_back(m);
}

unsigned barrier(const Site* site, bool predicate) {
    Quiet quiet;
    Worker* me = worker();
    if (run->at_barrier && run->barrier_site != site)
        fail(site, "divergent barrier: %u of %u threads wait in the one at %s:%d", run->at_barrier, run->threads,
             run->barrier_site->file, run->barrier_site->line);
    run->barrier_site = site;
    run->at_barrier++;
    run->counted += predicate;
    order_release(&run->barrier_key);
    if (run->at_barrier < run->threads) {
        wait(State::at_barrier, site);
    } else {
        const unsigned counted = run->counted;
        run->at_barrier = run->counted = 0;
        hopper_barrier();
        for (unsigned t = 0; t < run->threads; t++) {
            run->workers[t]->counted = counted;
            if (run->workers[t] != me) make_ready(t);
        }
    }
    order_acquire(&run->barrier_key);
    return me->counted;
}

void fail(const Site* site, const char* format, ...) {
    quiet_begin(worker()->fiber.quiet);
    va_list args;
    va_start(args, format);
    report(*run->fault, worker(), site, format, args);
    va_end(args);
    abandon();
}

void abandon() {
    run->failed = true;
    Fiber& fiber = worker()->fiber;
    while (fiber.quiet > 0) quiet_end(fiber.quiet);
    retire(fiber);
    __builtin_unreachable();
}

extern "C" {

// 0, or 1 with `fault` filled in.
int rallrec_host_launch(const Request* request, Fault* fault) {
    static thread_local Kept kept;
    Run** mine = kept.blocks;
    static thread_local char grid_key = 0;
    watch_memory();
    for (Run*& block : kept.blocks) {
        if (!block) block = new_run();
        block->request = request;
        block->fault = fault;
        block->failed = false;
        block->grid_key = &grid_key;
    }
    run = mine[0];
    int quiet = 0;
    quiet_begin(quiet);
    launch(*request, mine);
    quiet_end(quiet);
    const bool failed = run->failed;
    run = nullptr;
    self = nullptr;
    return failed;
}

// From here to `rallrec_host_end_set` what registers belongs to a set of its own: its number.
unsigned rallrec_host_begin_set() { return enlisting = ++last_set; }

void rallrec_host_end_set() { enlisting = 0; }

// Calls `each` for every constant of a set.
void rallrec_host_constants(unsigned set, void (*each)(void*, const char*, size_t), void* context) {
    for (const Constant* c = constants; c; c = c->next)
        if (c->set == set) each(context, c->name, c->value);
}

// Calls `each` for every struct of arguments of a set.
void rallrec_host_layouts(unsigned set, void (*each)(void*, const char*, size_t, unsigned, const char* const*, const size_t*),
                          void* context) {
    for (const Layout* l = layouts; l; l = l->next)
        if (l->set == set) each(context, l->name, l->size, l->count, l->names, l->places);
}

// Calls `each` for every kernel of a set.
void rallrec_host_kernels(unsigned set, void (*each)(void*, const char*, unsigned, unsigned, const size_t*), void* context) {
    for (const Kernel* k = kernels; k; k = k->next)
        if (k->set == set) each(context, k->name, k->max_threads, k->count, k->sizes);
}

}  // extern "C"

}  // namespace rallrec_host
