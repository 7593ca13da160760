"""transformers: prefill of one prompt, or S samples decoded behind it (best case: one prefill, its cache copied to
S rows, a bare loop of forward and sampling; the prefill and the copy are not timed).

    python hf_llm.py prefill|decode MODEL_FOLDER [--dtype float32] [--tokens 512] [--samples 16] [--new 64]
"""
import argparse
import time

import common

parser = argparse.ArgumentParser()
parser.add_argument("work", choices=["prefill", "decode"])
parser.add_argument("model")
parser.add_argument("--dtype", default="float32")
parser.add_argument("--tokens", type=int, default=512)
parser.add_argument("--samples", type=int, default=16)
parser.add_argument("--new", type=int, default=64)
parser.add_argument("--runs", type=int, default=5)
parser.add_argument("--threads", type=int, default=common.cores())
args = parser.parse_args()
common.set_threads(args.threads)

import torch  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402

torch.set_num_threads(args.threads)
model = AutoModelForCausalLM.from_pretrained(args.model, dtype=getattr(torch, args.dtype)).eval()
prompt = torch.tensor([[1000 + i * 7919 % 39_000 for i in range(args.tokens)]])


def prefill():
    with torch.inference_mode():
        return model(prompt, use_cache=True, logits_to_keep=1)


def decode():
    with torch.inference_mode():
        first = prefill()
        past, logits = first.past_key_values, first.logits[:, -1].expand(args.samples, -1)
        past.batch_repeat_interleave(args.samples)
        start = None
        for step in range(args.new):
            chances = torch.softmax(logits.float() / 0.6, -1)
            token = torch.multinomial(chances, 1)
            # The clock starts when the first token is there, as in ours.
            start = start or time.perf_counter()
            if step == args.new - 1:
                return time.perf_counter() - start
            out = model(token, past_key_values=past, use_cache=True)
            past, logits = out.past_key_values, out.logits[:, -1]


if args.work == "prefill":
    seconds, units = common.timed(args.runs, prefill), args.tokens
else:
    decode()
    seconds, units = [decode() for _ in range(args.runs)], args.samples * (args.new - 1)
common.report(args.work, args.threads, seconds, units, "tokens/s", dtype=args.dtype, torch=torch.__version__)
