"""SmolLM2-135M-Instruct as `rallrec model pull` gets it (GGUF, Q4_1) -> the same weights for each tool:
OUT/hf (a Hugging Face folder, bf16), OUT/f16.gguf (not quantised, for llama.cpp) and OUT/q8_0.gguf (8 bits in groups of 32).

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
widened = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
# A model that remembers having been quantised cannot be saved: the same weights in one that does not.
config = widened.config
if hasattr(config, "quantization_config"):
    del config.quantization_config
model = AutoModelForCausalLM.from_config(config)
model.load_state_dict(widened.state_dict())
model.to(torch.bfloat16).save_pretrained(os.path.join(args.out, "hf"))
# Good enough for timing: transformers drops the file's own pre-tokenizer, which splits digits singly.
AutoTokenizer.from_pretrained(folder, gguf_file=name).save_pretrained(os.path.join(args.out, "hf"))

reader = gguf.GGUFReader(args.source)


def write(name, file_type, tensor_type):
    """The weights, rounded to bf16 and then to `tensor_type`, as OUT/`name`."""
    writer = gguf.GGUFWriter(os.path.join(args.out, name), "llama")
    left_out = {"general.architecture", "general.file_type", "general.quantization_version"}
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key in left_out:
            continue
        value, kind = field.contents(), field.types[0]
        if kind == gguf.GGUFValueType.ARRAY:
            writer.add_array(key, value)
        else:
            writer.add_key_value(key, value, kind)
    writer.add_file_type(file_type)
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        if "norm" in tensor.name:
            writer.add_tensor(tensor.name, values.astype(np.float32))
            continue
        rounded = torch.from_numpy(values).to(torch.bfloat16).float().numpy()
        writer.add_tensor(tensor.name, gguf.quants.quantize(rounded, tensor_type), raw_dtype=tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


write("f16.gguf", gguf.LlamaFileType.MOSTLY_F16, gguf.GGMLQuantizationType.F16)
write("q8_0.gguf", gguf.LlamaFileType.MOSTLY_Q8_0, gguf.GGMLQuantizationType.Q8_0)
