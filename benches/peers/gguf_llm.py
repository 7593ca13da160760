"""llama.cpp through llama-cpp-python's low-level interface: prefill of one prompt, or S sequences that share the
prompt's cells in one cache, sampled by a vectorised softmax.

    python gguf_llm.py prefill|decode FILE.gguf [--tokens 512] [--samples 16] [--new 64]
"""
import argparse
import ctypes
import os
import time

import common

parser = argparse.ArgumentParser()
parser.add_argument("work", choices=["prefill", "decode"])
parser.add_argument("model")
parser.add_argument("--tokens", type=int, default=512)
parser.add_argument("--samples", type=int, default=16)
parser.add_argument("--new", type=int, default=64)
parser.add_argument("--runs", type=int, default=5)
parser.add_argument("--threads", type=int, default=common.cores())
args = parser.parse_args()
common.set_threads(args.threads)

import llama_cpp as lib  # noqa: E402
import numpy as np  # noqa: E402

silent = lib.llama_log_callback(lambda level, text, data: None)
lib.llama_log_set(silent, ctypes.c_void_p(0))
lib.llama_backend_init()
model = lib.llama_model_load_from_file(args.model.encode(), lib.llama_model_default_params())
vocabulary = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
params = lib.llama_context_default_params()
params.n_ctx = args.tokens + args.samples * args.new + 64
params.n_batch, params.n_ubatch, params.n_seq_max = max(args.tokens, 1024), 512, args.samples
params.n_threads = params.n_threads_batch = args.threads
params.kv_unified, params.no_perf = True, True
context = lib.llama_init_from_model(model, params)
memory = lib.llama_get_memory(context)
wide = lib.llama_batch_init(max(args.tokens, 1024), 0, 1)
narrow = lib.llama_batch_init(args.samples, 0, 1)
prompt = [1000 + i * 7919 % 39_000 for i in range(args.tokens)]
rng = np.random.default_rng(1)


def run(batch, rows):
    """Rows of (token, position, sequence, whether its logits are wanted)."""
    batch.n_tokens = len(rows)
    for i, (token, position, sequence, wanted) in enumerate(rows):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = int(token), position, 1, wanted
        batch.seq_id[i][0] = sequence
    if lib.llama_decode(context, batch) != 0:
        raise RuntimeError("llama_decode failed")


def logits(i):
    return np.ctypeslib.as_array(lib.llama_get_logits_ith(context, i), shape=(vocabulary,))


def prefill():
    lib.llama_memory_clear(memory, True)
    run(wide, [(t, i, 0, int(i == args.tokens - 1)) for i, t in enumerate(prompt)])
    return logits(args.tokens - 1).copy()


def sample(rows):
    scaled = rows / 0.6
    chances = np.exp(scaled - scaled.max(1, keepdims=True))
    summed = np.cumsum(chances, 1)
    return (summed < rng.random((len(rows), 1)) * summed[:, -1:]).sum(1).clip(max=vocabulary - 1)


def decode():
    rows = np.repeat(prefill()[None], args.samples, 0)
    for s in range(1, args.samples):
        lib.llama_memory_seq_cp(memory, 0, s, -1, -1)
    start = None
    for step in range(args.new):
        tokens = sample(rows)
        start = start or time.perf_counter()
        if step == args.new - 1:
            return time.perf_counter() - start
        run(narrow, [(t, args.tokens + step, s, 1) for s, t in enumerate(tokens)])
        rows = np.stack([logits(i) for i in range(args.samples)])


if args.work == "prefill":
    seconds, units = common.timed(args.runs, prefill), args.tokens
else:
    decode()
    seconds, units = [decode() for _ in range(args.runs)], args.samples * (args.new - 1)
common.report(args.work, args.threads, seconds, units, "tokens/s", file=os.path.basename(args.model),
              llama_cpp_python=lib.__version__, system=lib.llama_print_system_info().decode().strip())
os._exit(0)  # its destructors may fail at exit
