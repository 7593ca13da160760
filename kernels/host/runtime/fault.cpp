// Says what went wrong where, and turns a memory fault inside a kernel into such a report.
#include <csignal>
#include <cstdio>
#include <mutex>
#include <ucontext.h>

#include "runtime.h"

namespace rallrec_host {

void report(Fault& fault, const Worker* who, const Site* site, const char* format, va_list args) {
    std::vsnprintf(fault.message, sizeof fault.message, format, args);
    fault.file = site ? site->file : nullptr;
    fault.line = site ? site->line : 0;
    fault.frame_count = 0;
    if (!who) return;
    const Dim b = who->block, t = who->thread;
    const unsigned block[3] = {b.x, b.y, b.z}, thread[3] = {t.x, t.y, t.z};
    std::memcpy(fault.block, block, sizeof block);
    std::memcpy(fault.thread, thread, sizeof thread);
    fault.frame_count = who == self && who->state == State::ready ? frames_here(who->fiber, fault.frames, kFrames)
                                                                   : frames_of(who->fiber, fault.frames, kFrames);
}

void report(Fault& fault, const Worker* who, const Site* site, const char* format, ...) {
    va_list args;
    va_start(args, format);
    report(fault, who, site, format, args);
    va_end(args);
}

namespace {

struct sigaction before[2];  // of SIGSEGV and SIGBUS

// The machine's own names for the registers that a report needs.
#if defined(__x86_64__)
uintptr_t program_counter(ucontext_t* c) { return uintptr_t(c->uc_mcontext.gregs[REG_RIP]); }
uintptr_t stack_pointer(ucontext_t* c) { return uintptr_t(c->uc_mcontext.gregs[REG_RSP]); }
uintptr_t frame_pointer(ucontext_t* c) { return uintptr_t(c->uc_mcontext.gregs[REG_RBP]); }
void go_on(ucontext_t* c, uintptr_t code, uintptr_t stack) {
    c->uc_mcontext.gregs[REG_RIP] = greg_t(code);
    c->uc_mcontext.gregs[REG_RSP] = greg_t(stack - 8);  // as after a call
}
#else
uintptr_t program_counter(ucontext_t* c) { return c->uc_mcontext.pc; }
uintptr_t stack_pointer(ucontext_t* c) { return c->uc_mcontext.sp; }
uintptr_t frame_pointer(ucontext_t* c) { return c->uc_mcontext.regs[29]; }
void go_on(ucontext_t* c, uintptr_t code, uintptr_t stack) {
    c->uc_mcontext.pc = code;
    c->uc_mcontext.sp = stack;
}
#endif

void on_fault(int signal, siginfo_t* info, void* context) {
    ucontext_t* c = static_cast<ucontext_t*>(context);
    Worker* who = run ? worker() : nullptr;
    const uintptr_t sp = stack_pointer(c), low = who ? reinterpret_cast<uintptr_t>(who->fiber.stack) : 0;
    // A stack pointer just below the stack is an overflow; anywhere else the fault is not a
    // kernel's.
    if (!who || sp + 65536 < low || sp > low + kStackBytes) {
        const struct sigaction& old = before[signal == SIGBUS];
        if (old.sa_flags & SA_SIGINFO) return old.sa_sigaction(signal, info, context);
        if (old.sa_handler != SIG_IGN && old.sa_handler != SIG_DFL) return old.sa_handler(signal);
        ::signal(signal, SIG_DFL);  // the instruction runs again, and ends the process as it would have
        return;
    }
    const uintptr_t address = reinterpret_cast<uintptr_t>(info->si_addr);
    char text[512];
    if (address >= low && address < low + kGuardBytes)
        std::snprintf(text, sizeof text, "the thread's stack is full (%zu bytes)",
                      kStackBytes - kGuardBytes - who->fiber.shift);
    else if (!explain_address(address, text, sizeof text))
        std::snprintf(text, sizeof text, "access to address %#zx, which belongs to no buffer", size_t(address));
    report(*run->fault, who, nullptr, "%s", text);
    Fault& f = *run->fault;
    f.frames[0] = program_counter(c) + 1;  // as if it were a return address
    f.frame_count = 1 + frames_from(who->fiber, frame_pointer(c), f.frames + 1, kFrames - 1);
    // On the emptied stack: nothing of the thread is needed any more.
    go_on(c, reinterpret_cast<uintptr_t>(&abandon), low + kStackBytes - 256);
}

}  // namespace

void watch_memory() {
    static std::once_flag once;
    std::call_once(once, [] {
        struct sigaction action = {};
        action.sa_sigaction = on_fault;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
        sigemptyset(&action.sa_mask);
        sigaction(SIGSEGV, &action, &before[0]);
        sigaction(SIGBUS, &action, &before[1]);
    });
    // The handler must not run on the stack that overflowed. Rust's threads have such a stack
    // already.
    stack_t now = {};
    sigaltstack(nullptr, &now);
    if (now.ss_flags & SS_DISABLE) {
        static thread_local char* stack = nullptr;
        if (!stack) stack = new char[65536];
        stack_t mine = {};
        mine.ss_sp = stack;
        mine.ss_size = 65536;
        sigaltstack(&mine, nullptr);
    }
}

}  // namespace rallrec_host
