"""Logits behind prompts, as transformers computes them in f32; called by tests/models/families.rs.

    families.py MODEL PROMPTS   PROMPTS is a JSON list of lists of token ids; prints a list of lists of logits
"""

import json
import sys

import torch
from transformers import AutoModelForCausalLM

torch.set_num_threads(1)
# Soft caps of scores are in the plain implementation alone.
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32, attn_implementation="eager").eval()
with torch.no_grad():
    logits = [model(torch.tensor([ids])).logits[0, -1].tolist() for ids in json.loads(sys.argv[2])]
json.dump(logits, sys.stdout)
