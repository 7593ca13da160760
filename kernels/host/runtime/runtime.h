// Inside the runtime: what its parts know of each other.
#pragma once

#include <csetjmp>
#include <cstdarg>
#include <cstdint>
#include <vector>

#include "cuda_host.h"
#include "fiber.h"

namespace rallrec_host {

constexpr int kFrames = 24;

// What went wrong in a launch; shared with Rust, so plain.
struct Fault {
    char message[768];
    const char* file;  // null when only the addresses know
    int line;
    unsigned block[3], thread[3];
    uintptr_t frames[kFrames];
    int frame_count;
};

struct Request {
    const char* kernel;
    unsigned grid[3], block[3];
    size_t shared_bytes;
    void** args;
    const size_t* arg_sizes;
    unsigned arg_count;
    uint64_t seed;
    unsigned set;  // where the kernel is looked for before the program's own
};

enum class State : uint8_t { ready, at_warp, at_barrier, at_warpgroup, at_mbarrier, at_registers, ended };

struct Copy {
    char* to;
    const char* from;
    unsigned bytes, valid;
    unsigned group;
    const Site* site;
};

// Lanes of one warp on their way to one meeting.
struct Meeting {
    Slots slots;
    const Site* site;
    unsigned arrived, left;
    bool open;
};

struct Warp {
    std::vector<Meeting*> meetings;  // those that somebody waits in, or still reads
};

struct Worker : Thread {
    Fiber fiber;
    State state = State::ready;
    const Site* site = nullptr;
    unsigned warp = 0;
    unsigned counted = 0;
    std::vector<Copy> copies;
    unsigned committed = 0;
};

struct Shared;
struct Hopper;

// A block that runs, of a launch on one OS thread. Two blocks of a launch take turns.
struct Run {
    const Request* request = nullptr;
    Fault* fault = nullptr;
    bool failed = false;
    std::vector<Worker*> workers;  // all ever made; the first `threads` take part
    unsigned threads = 0;
    std::vector<unsigned> ready;
    unsigned starved = ~0u;      // a warp whose turn comes when nobody else can go on
    std::vector<unsigned> held;  // threads of that warp that are ready
    std::vector<Warp> warps;
    std::vector<Meeting*> spare;
    uint64_t random = 1;
    unsigned at_barrier = 0, counted = 0, ended = 0;
    const Site* barrier_site = nullptr;
    void (*call)(void**) = nullptr;
    Shared* shared = nullptr;
    Hopper* hopper = nullptr;
    char* grid_key = nullptr;  // one for all blocks of a launch
    char barrier_key = 0;
};

extern __thread Run* run;  // the block that runs on this OS thread, else null

inline Worker* worker() { return static_cast<Worker*>(self); }

// Around the runtime's work for the fiber that runs.
struct Quiet {
    int& depth;
    Quiet() : depth(worker()->fiber.quiet) { quiet_begin(depth); }
    ~Quiet() { quiet_end(depth); }
    Quiet(const Quiet&) = delete;
};
// What the kernel itself does inside of such work.
struct Heard {
    int& depth;
    Heard() : depth(worker()->fiber.quiet) { quiet_end(depth); }
    ~Heard() { quiet_begin(depth); }
    Heard(const Heard&) = delete;
};

// block.cpp
uint64_t next_random();
void make_ready(unsigned thread);
// Gives the processor to another fiber until somebody makes this one ready.
void wait(State state, const Site* site);
// The same, but ready at once: others may run in between.
void yield();
// What a thread does, for people.
const char* where(const Worker& worker, char* text, size_t bytes);

// fault.cpp
void watch_memory();  // installs the handler of memory faults; idempotent
void report(Fault& fault, const Worker* who, const Site* site, const char* format, va_list args);
void report(Fault& fault, const Worker* who, const Site* site, const char* format, ...);
[[noreturn]] void abandon();

// memory.cpp
Shared* new_shared();
size_t shared_limit();  // bytes of shared memory that a block may have, static and dynamic
void begin_block(size_t dynamic_bytes);
void end_block();                         // canaries of shared memory; fails the run where one is gone
bool explain_address(uintptr_t address, char* text, size_t bytes);
bool global_canaries(const void* p, char* text, size_t bytes);  // false and why, where [p] was overrun
void land_copies(Worker& worker, unsigned groups_left);
void forget_copies(Worker& worker);
const Copy* copy_into(const void* p, size_t bytes);  // the cp.async under way in this block that touches [p, p + bytes), if any
bool is_shared(const void* p, size_t bytes);         // whether all of it lies in one shared array of this block
const char* shared_pointer(uint32_t address);        // the inverse of `shared_address`

// hopper.cpp, wgmma.cpp
Hopper* new_hopper();
void hopper_begin_block();
void hopper_end_block();            // fails the run where something is still under way
void hopper_end_thread();           // the same for the thread that runs
void hopper_barrier();              // all threads have met
bool land_some_load(bool must);     // lands a TMA load, perhaps; must: if there is one. Called by the scheduler
bool explain_registers();  // who waits for registers, if somebody does
bool explain_hopper_deadlock();
const Site* load_into(const void* p, size_t bytes);  // the TMA load under way that writes there, if any

}  // namespace rallrec_host
