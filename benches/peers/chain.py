#!/usr/bin/env python3
"""The whole quick recipe by the tools that a user would chain instead: transformers (embedding, scoring, sampling), PyTorch
(LightGCN), peft (tuning), on the prompts and counts of a finished run of ours.

    python chain.py RUN MODEL_FOLDER TRAIN.txt TEST.txt [--seconds 60]

RUN is made with reason.ablation = false: what it adds is not asked of the peers. Each stage runs for about --seconds on the run's own rows; its rate times the run's counts is the stage's time. Alignment,
retrieval, merge and tables are left out on the peers' side (seconds on ours). Stages of ours are those of the run, which
must have made all of them itself, on this machine, with nothing else running.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import time

import common

parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
parser.add_argument("run", type=pathlib.Path)
parser.add_argument("model")
parser.add_argument("train")
parser.add_argument("test")
parser.add_argument("--seconds", type=float, default=60)
parser.add_argument("--threads", type=int, default=common.cores())
args = parser.parse_args()
common.set_threads(args.threads)

import peft  # noqa: E402
import torch  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402

torch.set_num_threads(args.threads)
torch.manual_seed(0)


def artifact(stage, name):
    """Lines of the newest artifact of a stage."""
    files = sorted(args.run.glob(f"artifacts/{stage}-*/{name}"), key=lambda p: p.stat().st_mtime)
    return [json.loads(line) for line in open(files[-1])]


events = [json.loads(line) for line in open(args.run / "events.jsonl")]
results = json.loads((args.run / "results.json").read_text())
ours = {s["stage"]: s["seconds"] for s in results["stages"]}
embedded = max(e["total"] for e in events if e["kind"] == "stage_progress" and e["stage"] == "embed")
steps = max(e["steps"] for e in events if e["kind"] == "train_step" and e["stage"] == "graph")
prompts = artifact("prompts", "prompts.jsonl")
predictions = artifact("predict", "predictions.jsonl")
samples = artifact("reason", "samples.jsonl")
texts = [d["text"] for d in artifact("describe", "descriptions.jsonl") if d["text"]]

tokenizer = AutoTokenizer.from_pretrained(args.model, padding_side="left")
tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()


def chat(row):
    return tokenizer.apply_chat_template(row["prompt"]["messages"], tokenize=False, add_generation_prompt=True)


def rate(rows, batch, work):
    """Units a second of `work`, which takes some rows and says how many units they were."""
    work(rows[:batch])
    begun, done, at = time.perf_counter(), 0, 0
    while time.perf_counter() - begun < args.seconds:
        done += work([rows[(at + i) % len(rows)] for i in range(batch)])
        at += batch
    return done / (time.perf_counter() - begun)


def encode(rows, **more):
    return tokenizer(rows, return_tensors="pt", padding=True, add_special_tokens=False, **more)


@torch.no_grad()
def embed(rows):
    x = encode(rows, truncation=True, max_length=48)
    states = model.model(**x).last_hidden_state
    _ = (states * x.attention_mask[..., None]).sum(1) / x.attention_mask.sum(1, keepdim=True)
    return int(x.attention_mask.sum())


@torch.no_grad()
def score(rows):
    model(**encode([chat(r) for r in rows]), logits_to_keep=1)
    return len(rows)


@torch.no_grad()
def reason(rows):
    s, most = len({r["sample"] for r in samples}), max(r["tokens"] for r in samples)
    x = encode([chat(r) for r in rows])
    model.generate(**x, do_sample=True, max_new_tokens=most, num_return_sequences=s, pad_token_id=tokenizer.pad_token_id)
    # The second pass scores every sample; its thoughts are left out of the peers' prompts.
    for _ in range(s):
        score(rows)
    return len(rows)


def tune_rate():
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    config = peft.LoraConfig(r=8, lora_alpha=16, lora_dropout=0.05, target_modules=targets, task_type="CAUSAL_LM")
    tuned = peft.get_peft_model(model, config).train()
    optimiser = torch.optim.AdamW([p for p in tuned.parameters() if p.requires_grad], lr=1e-3)

    def step(rows):
        x = encode([chat(r) + ("Yes" if r["label"] else "No") for r in rows])
        labels = torch.full_like(x.input_ids, -100)
        labels[:, -1] = x.input_ids[:, -1]
        tuned(**x, labels=labels).loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return len(rows)

    return rate([p for p in prompts if p["set"] == "tune"], 16, step)


tuning = [p for p in prompts if p["set"] == "tune"]
test = [p for p in prompts if p["set"] == "test"]
reasoned = len({(s["set"], s["row"]) for s in samples})
theirs, counts = {}, {}
counts["embed"], theirs["embed"] = f"{embedded:,} tokens", embedded / rate(texts, 32, embed)
graph = subprocess.run([sys.executable, "torch_lightgcn.py", args.train, args.test, "--steps", "100", "--threads", str(args.threads)],
                       cwd=pathlib.Path(__file__).parent, stdout=subprocess.PIPE, check=True, text=True)
figure = json.loads(graph.stdout.splitlines()[-1])
counts["graph"], theirs["graph"] = f"{steps:,} steps", steps * figure["median_s"]
per_row = rate(test, 8, score)
counts["predict"], theirs["predict"] = f"{len(predictions):,} prompts", len(predictions) / per_row
counts["reason"], theirs["reason"] = f"{reasoned:,} prompts", reasoned / rate(test, 4, reason)
# The early-stop rows of our tuning are counted on our side only.
counts["tune"], theirs["tune"] = f"{len(tuning):,} prompts", len(tuning) / tune_rate()

print("| stage | volume | ours, s | peers, s | ratio |\n| --- | --- | --- | --- | --- |")
for stage in ("embed", "graph", "tune", "predict", "reason"):
    print(f"| {stage} | {counts[stage]} | {ours[stage]:.0f} | {theirs[stage]:.0f} | {theirs[stage] / ours[stage]:.2f} |")
rest = sum(v for k, v in ours.items() if k not in theirs)
total, total_theirs = sum(ours.values()), sum(theirs.values())
print(f"| the rest | | {rest:.0f} | not counted | |")
print(f"| all | | {total:.0f} | {total_theirs:.0f} | {total_theirs / total:.2f} |")
