"""The PyTorch side of scripts/dev/real/parity.mjs: greedy answers, logits and SFT losses of a model folder.

Run by real-parity.mjs: python real-parity.py MODEL INPUT.json OUTPUT.json
"""

import json
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main(folder, source, target):
    torch.set_num_threads(2)
    given = json.load(open(source, encoding="utf-8"))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    result = {"answers": [], "ids": [], "logits": [], "losses": []}
    for messages in given["chats"]:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
        with torch.no_grad():
            out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=given["maxNewTokens"],
                                 repetition_penalty=1.0, pad_token_id=tokenizer.eos_token_id)
            logits = model(ids).logits[0, -1]
        result["ids"].append(ids[0].tolist())
        result["answers"].append(out[0, ids.shape[1]:].tolist())
        result["logits"].append(logits.tolist())
    optimizer = torch.optim.AdamW(model.parameters(), lr=given["learningRate"], betas=(0.9, 0.999), eps=1e-8, weight_decay=0)
    for batch in given["batches"]:
        optimizer.zero_grad()
        count = sum(sum(1 for label in row["labels"][1:] if label != -100) for row in batch)
        total = 0.0
        for row in batch:
            ids, labels = torch.tensor(row["inputIds"]), torch.tensor(row["labels"])
            logits = model(ids[None], use_cache=False).logits[0]
            loss = torch.nn.functional.cross_entropy(logits[:-1], labels[1:], ignore_index=-100, reduction="sum") / count
            loss.backward()
            total += float(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        result["losses"].append(total)
    json.dump(result, open(target, "w", encoding="utf-8"))


if __name__ == "__main__":
    main(*sys.argv[1:])
