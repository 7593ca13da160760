"""peft: one LoRA step (rank 8 on q and v, 4 x 512 tokens, loss on the last 3 of each, AdamW).

    python peft_lora.py MODEL_FOLDER [--logits full|answer]

`full` is what transformers does by itself: logits of every position; `answer` asks for the learnt ones only.
"""
import argparse

import common

parser = argparse.ArgumentParser()
parser.add_argument("model")
parser.add_argument("--logits", default="full", choices=["full", "answer"])
parser.add_argument("--runs", type=int, default=3)
parser.add_argument("--threads", type=int, default=common.cores())
args = parser.parse_args()
common.set_threads(args.threads)

import peft  # noqa: E402
import torch  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402

torch.set_num_threads(args.threads)
torch.manual_seed(0)
BATCH, LENGTH, ANSWER = 4, 512, 3
model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
config = peft.LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
model = peft.get_peft_model(model, config).train()
optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=5e-4)
tokens = torch.randint(1000, 40_000, (BATCH, LENGTH))
labels = tokens.clone()
labels[:, : LENGTH - ANSWER] = -100


def step():
    if args.logits == "full":
        loss = model(tokens, labels=labels).loss
    else:
        kept = model(tokens, logits_to_keep=ANSWER + 1).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(kept.flatten(0, 1), labels[:, -ANSWER:].flatten())
    loss.backward()
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)


before = common.peak_mib()
seconds = common.timed(args.runs, step)
common.report("lora", args.threads, seconds, BATCH * LENGTH, "tokens/s", logits=args.logits, before_mib=before,
              torch=torch.__version__, peft=peft.__version__)
