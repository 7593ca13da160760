// How g++ compiles a kernel for the host build, beside its level: read by the build script and by
// the program, which compiles kernels of a folder the same way.
[
    "-std=c++17",
    "-DRALLREC_HOST",
    "-fPIC",
    "-fno-omit-frame-pointer",
    "-fno-strict-aliasing",
    "-fno-optimize-sibling-calls",
    "-Wno-unknown-pragmas",
    // GCC tells at every parameter of 64-byte alignment that version 4.6 passed it otherwise.
    "-Wno-psabi",
]
