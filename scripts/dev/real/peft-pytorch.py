"""The PyTorch and PEFT side of scripts/dev/real/peft.mjs, which runs it: python peft-pytorch.py MODEL FOLDER

FOLDER has in.json and the adapters to start from; out.json gets the losses of each training. Rows are encoded here.
"""

import json
import sys
import time
import warnings
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging


def adapted(model, folder):
    # What PEFT only warns of, such as keys that are missing, is an error here.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return PeftModel.from_pretrained(model, folder, is_trainable=True).eval()


def main(source, folder):
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    folder = Path(folder)
    given = json.loads((folder / "in.json").read_text(encoding="utf-8"))
    if given.get("threads"):
        torch.set_num_threads(int(given["threads"]))
    tokenizer = AutoTokenizer.from_pretrained(source)
    end = tokenizer("<|im_end|>", add_special_tokens=False).input_ids

    def encode(messages, answer):
        """Ids, and where the answer begins, which ends with the end of its turn."""
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        prompt = tokenizer(text, add_special_tokens=False).input_ids
        return prompt + tokenizer(answer, add_special_tokens=False).input_ids + end, len(prompt)

    def log_probs(model, ids, start):
        """Of each token of the answer."""
        logits = model(torch.tensor([ids]), use_cache=False).logits[0, start - 1 : -1]
        return logits.log_softmax(-1).gather(1, torch.tensor(ids[start:])[:, None])[:, 0]

    def language():
        return AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)

    def classifier():
        model = AutoModelForSequenceClassification.from_pretrained(source, num_labels=1, dtype=torch.float32)
        # Its pad token ends every text, and would be passed over as the last token.
        model.config.pad_token_id = None
        return model

    def train(model, rows, rate, backward):
        """Losses of AdamW steps; `backward` gives the loss of a batch and adds its gradients."""
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=0)
        losses = []
        for first in range(0, len(rows), given["batch"]):
            optimizer.zero_grad()
            losses.append(backward(model, rows[first : first + given["batch"]]))
            torch.nn.utils.clip_grad_norm_(trained, given["maxGradNorm"])
            optimizer.step()
        return losses

    def fine_tuning(model, batch):
        count = sum(len(ids) - start for ids, start in batch)
        total = 0.0
        for ids, start in batch:
            loss = -log_probs(model, ids, start).sum() / count
            loss.backward()
            total += loss.item()
        return total

    def preference(model, batch):
        total = 0.0
        for chosen, rejected in batch:
            with torch.no_grad(), model.disable_adapter():
                reference = log_probs(model, *chosen).sum() - log_probs(model, *rejected).sum()
            policy = log_probs(model, *chosen).sum() - log_probs(model, *rejected).sum()
            loss = -torch.nn.functional.logsigmoid(given["beta"] * (policy - reference)) / len(batch)
            loss.backward()
            total += loss.item()
        return total

    def judgement(model, batch):
        total = 0.0
        for (chosen, _), (rejected, _) in batch:
            better, worse = (model(torch.tensor([ids]), use_cache=False).logits[0, 0] for ids in (chosen, rejected))
            loss = -torch.nn.functional.logsigmoid(better - worse) / len(batch)
            loss.backward()
            total += loss.item()
        return total

    rows = [encode(row["messages"][:-1], row["messages"][-1]["content"]) for row in given["rows"]]
    pairs = [(encode(pair["prompt"], pair["chosen"]), encode(pair["prompt"], pair["rejected"])) for pair in given["pairs"]]
    rates = given["rates"]
    started = time.perf_counter()
    result = {
        "sft": train(adapted(language(), folder / "adapter"), rows, rates["sft"], fine_tuning),
        "dpo": train(adapted(language(), folder / "adapter"), pairs, rates["dpo"], preference),
        "reward": train(adapted(classifier(), folder / "judge"), pairs, rates["reward"], judgement),
    }
    whole = classifier().eval()
    with torch.no_grad():
        whole.score.weight.copy_(torch.tensor(given["head"])[None])
    result["rewardWhole"] = train(whole, pairs, rates["rewardWhole"], judgement)
    result["seconds"] = time.perf_counter() - started
    (folder / "out.json").write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
