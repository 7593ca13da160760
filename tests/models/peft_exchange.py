"""What PEFT makes of an adapter, and an adapter that PEFT made; called by tests/models/peft_exchange.rs.

    peft_exchange.py read  MODEL ADAPTER PROMPTS.json OUT.json   logits of MODEL with the adapter in ADAPTER
    peft_exchange.py write MODEL ADAPTER PROMPTS.json OUT.json   makes an adapter into ADAPTER first

PROMPTS.json is a list of lists of token ids; OUT.json has the last position's logits of each, with and without the
adapter, computed by transformers in f32.
"""

import json
import sys

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

mode, model_path, adapter_path, prompts_path, out_path = sys.argv[1:]
torch.manual_seed(7)
torch.set_num_threads(1)
with open(prompts_path) as file:
    prompts = json.load(file)
model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32).eval()


def logits(of):
    with torch.no_grad():
        return [of(torch.tensor([ids])).logits[0, -1].tolist() for ids in prompts]


out = {"base": logits(model)}
if mode == "write":
    config = LoraConfig(r=4, lora_alpha=12, lora_dropout=0.05, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(model, config).eval()
    for name, values in model.named_parameters():
        if "lora_B" in name:  # zero at the start: an adapter without effect would show nothing
            torch.nn.init.normal_(values, std=0.2)
    out["adapted"] = logits(model)
    # PEFT notes the path of the base model; a golden must not.
    model.peft_config["default"].base_model_name_or_path = "fixture"
    model.save_pretrained(adapter_path)
else:
    model = PeftModel.from_pretrained(model, adapter_path).eval()
    # PEFT warns and goes on when tensors have no place: every pair must be in use.
    pairs = [name for name, _ in model.named_parameters() if "lora_" in name]
    out["tensors"] = len(pairs)
    out["adapted"] = logits(model)
with open(out_path, "w") as file:
    json.dump(out, file)
