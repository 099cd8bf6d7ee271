"""Opens a model folder in transformers and compares its greedy answers with ours.

Run: python scripts/dev/checks/transformers-check.py MODEL < {"prompts": [[ids]], "answers": [[ids]]}
Prints {"transformers": version, "equal": n, "of": n, "dtype": ..., "chat": ids of the chat template or null}.
"""

import json
import sys

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer


def main(folder):
    given = json.load(sys.stdin)
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"], info
    dtype = str(model.dtype).removeprefix("torch.")
    model = model.float().eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    equal = 0
    for prompt, answer in zip(given["prompts"], given["answers"], strict=True):
        ids = torch.tensor([prompt])
        with torch.no_grad():
            out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=given["maxNewTokens"])
        equal += out[0, len(prompt):].tolist() == answer
    chat = None
    if tokenizer.chat_template is not None:
        text = tokenizer.apply_chat_template(given["messages"], tokenize=False, add_generation_prompt=True)
        chat = tokenizer(text, add_special_tokens=False).input_ids
    print(json.dumps({"transformers": transformers.__version__, "equal": equal, "of": len(given["prompts"]), "dtype": dtype, "chat": chat}))


if __name__ == "__main__":
    main(sys.argv[1])
