"""SmolLM2-135M-Instruct as `rallrec model pull` gets it (GGUF, Q4_1) -> the same weights for each tool:
OUT/hf (a Hugging Face folder, bf16) and OUT/f16.gguf (not quantised, for llama.cpp).

    python convert.py MODEL.gguf OUT
"""
import argparse
import os

import gguf
import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

parser = argparse.ArgumentParser()
parser.add_argument("source")
parser.add_argument("out")
args = parser.parse_args()
folder, name = os.path.split(os.path.abspath(args.source))
os.makedirs(args.out, exist_ok=True)

# Rounded to bf16 once, so that 16-bit and 32-bit readers compute with the same numbers.
model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32).to(torch.bfloat16)
model.save_pretrained(os.path.join(args.out, "hf"))
# Good enough for timing: transformers drops the file's own pre-tokenizer, which splits digits singly.
AutoTokenizer.from_pretrained(folder, gguf_file=name).save_pretrained(os.path.join(args.out, "hf"))

reader = gguf.GGUFReader(args.source)
writer = gguf.GGUFWriter(os.path.join(args.out, "f16.gguf"), "llama")
left_out = {"general.architecture", "general.file_type", "general.quantization_version"}
for key, field in reader.fields.items():
    if key.startswith("GGUF.") or key in left_out:
        continue
    value, kind = field.contents(), field.types[0]
    if kind == gguf.GGUFValueType.ARRAY:
        writer.add_array(key, value)
    else:
        writer.add_key_value(key, value, kind)
writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
for tensor in reader.tensors:
    values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    if "norm" in tensor.name:
        writer.add_tensor(tensor.name, values.astype(np.float32))
    else:
        rounded = torch.from_numpy(values).to(torch.bfloat16).float().numpy()
        writer.add_tensor(tensor.name, rounded.astype(np.float16))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
