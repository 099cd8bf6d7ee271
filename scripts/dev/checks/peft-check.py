"""Opens what we saved in PEFT and transformers and prints what they make of it.

Run: python scripts/dev/checks/peft-check.py BASE ADAPTER '[[ids], ...]'            a language model and an adapter folder
     python scripts/dev/checks/peft-check.py --all '[{"base", "adapter", "texts"}, ...]'   several, as a list
     python scripts/dev/checks/peft-check.py --score MODEL '[[ids], ...]'           a reward model folder
     python scripts/dev/checks/peft-check.py --score BASE ADAPTER '[[ids], ...]'    a language model and a reward model's adapter

Prints {"peft": version, "logits": [[every logit of a text]], "greedy": [[8 ids after each text]], "parameters": trained},
or {"peft", "scores": [...], "padded": [...]} with the texts one by one and as one batch, padded on the right.
"""

import json
import os
import sys
import warnings
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import peft
import torch
from peft import PeftModel
from peft.utils import get_peft_model_state_dict
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

GREEDY = 8


def adapted(model, folder):
    # What PEFT only warns of (missing keys, a transposed layer it had to guess) is an error here.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*tie_word_embeddings=True.*")
        model = PeftModel.from_pretrained(model, folder)
    with safe_open(Path(folder) / "adapter_model.safetensors", "pt") as file:
        ours = {name: file.get_tensor(name) for name in file.keys()}
    theirs = get_peft_model_state_dict(model)
    assert set(ours) == set(theirs), sorted(set(ours) ^ set(theirs))
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name].cpu()), f"{name} was not read"
    return model, sum(tensor.numel() for tensor in ours.values())


def opened(kind, folder, **options):
    model, info = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True, **options)
    return model, info


def language(base, folder, texts):
    model, _ = opened(AutoModelForCausalLM, base)
    model, parameters = adapted(model, folder)
    model.eval()
    logits, greedy = [], []
    for text in texts:
        ids = torch.tensor([text])
        logits.append(model(input_ids=ids, use_cache=False).logits[0].flatten().tolist())
        for _ in range(GREEDY):
            ids = torch.cat([ids, model(input_ids=ids, use_cache=False).logits[:, -1].argmax(-1, keepdim=True)], 1)
        greedy.append(ids[0, -GREEDY:].tolist())
    return dict(logits=logits, greedy=greedy, parameters=parameters)


def scores(folders, texts):
    # A body alone has no head yet: its adapter brings it.
    model, info = opened(AutoModelForSequenceClassification, folders[0], **(dict(num_labels=1) if len(folders) == 2 else {}))
    if len(folders) == 2:
        model, _ = adapted(model, folders[1])
    else:
        assert not info["missing_keys"] and not info["unexpected_keys"], info
    assert model.config.num_labels == 1
    model.eval()
    one_by_one = [float(model(input_ids=torch.tensor([text])).logits[0, 0]) for text in texts]
    padded, pad = None, model.config.pad_token_id
    if pad is not None:
        longest = max(len(text) for text in texts)
        ids = torch.tensor([text + [pad] * (longest - len(text)) for text in texts])
        mask = torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in texts])
        padded = model(input_ids=ids, attention_mask=mask).logits[:, 0].tolist()
    return dict(scores=one_by_one, padded=padded)


if __name__ == "__main__":
    torch.set_num_threads(1)
    arguments = sys.argv[1:]
    with torch.no_grad():
        if arguments[0] == "--score":
            said = scores(arguments[1:-1], json.loads(arguments[-1]))
        elif arguments[0] == "--all":
            every = [language(one["base"], one["adapter"], one["texts"]) for one in json.loads(arguments[1])]
            print(json.dumps(every))
            sys.exit()
        else:
            said = language(arguments[0], arguments[1], json.loads(arguments[2]))
    print(json.dumps({"peft": peft.__version__, **said}))
