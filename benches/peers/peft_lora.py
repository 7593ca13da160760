"""peft: one LoRA step (rank 8 on q and v, 4 x 512 tokens, loss on the last 3 of each, AdamW).

    python peft_lora.py MODEL_FOLDER [--logits full|answer] [--rows ragged] [--dtype bfloat16]

`ragged`: 16 prompts of real lengths instead, padded to the longest as a collator does; rate in real tokens. `full` is what transformers does by itself: logits of every position; `answer` asks for the learnt ones only.
"""
import argparse

import common

parser = argparse.ArgumentParser()
parser.add_argument("model")
parser.add_argument("--logits", default="full", choices=["full", "answer"])
parser.add_argument("--rows", default="plain", choices=["plain", "ragged"])
parser.add_argument("--dtype", default="float32", help="of the frozen weights and of what they are multiplied with; the adapter is f32")
parser.add_argument("--runs", type=int, default=3)
parser.add_argument("--threads", type=int, default=common.cores())
args = parser.parse_args()
common.set_threads(args.threads)

import peft  # noqa: E402
import torch  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402

torch.set_num_threads(args.threads)
torch.manual_seed(0)
ANSWER = 3
# The lengths of benches/stages/lora.rs.
RAGGED = [280, 440, 440, 439, 428, 174, 448, 211, 486, 452, 411, 465, 444, 481, 455, 391]
LENGTHS = RAGGED if args.rows == "ragged" else [512] * 4
model = AutoModelForCausalLM.from_pretrained(args.model, dtype=getattr(torch, args.dtype))
config = peft.LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
model = peft.get_peft_model(model, config).train()
optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=5e-4)
# Padded on the left, so that the answers stand in the last columns.
longest = max(LENGTHS)
tokens = torch.randint(1000, 40_000, (len(LENGTHS), longest))
mask = torch.stack([torch.arange(longest) >= longest - n for n in LENGTHS]).long() if args.rows == "ragged" else None
labels = tokens.clone()
labels[:, : longest - ANSWER] = -100


def step():
    if args.logits == "full":
        loss = model(tokens, attention_mask=mask, labels=labels).loss
    else:
        kept = model(tokens, attention_mask=mask, logits_to_keep=ANSWER + 1).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(kept.flatten(0, 1), labels[:, -ANSWER:].flatten())
    loss.backward()
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)


before = common.peak_mib()
seconds = common.timed(args.runs, step)
common.report("lora", args.threads, seconds, sum(LENGTHS), "tokens/s", logits=args.logits, dtype=args.dtype, before_mib=before,
              torch=torch.__version__, peft=peft.__version__)
