"""Writes test/fixtures/preferences: ten steps of reward, DPO and KTO as torch, transformers and PEFT make them.

Run: python scripts/dev/make-preference-fixtures.py   (torch 2.13.0, transformers 5.18.0, peft 0.21.0; fixed seed)
     python scripts/dev/make-preference-fixtures.py --trl   only compares reward and dpo with TRL's own trainers (trl 1.13.0)

The models are those of test/fixtures/models, adapters and reward. <name>.json has the rows, the options and for each
step loss and norm of the gradient before it is clipped; <name>.safetensors has delta.<name>, what ten steps changed, as
float32 of float64 truth. The rows come in their order, `batch` of them in a step, in `accumulation` parts.
"""

import json
import os
import random
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from peft import PeftModel
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch.nn.functional import log_softmax, logsigmoid
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

REPOSITORY = Path(__file__).resolve().parent.parent.parent
FIXTURES = "test/fixtures"
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789."
STEPS, BATCH, DECAY, CLIP = 10, 4, 0.1, 1.0
EOS = 0
tokenizer = Tokenizer.from_file(str(REPOSITORY / FIXTURES / "models/llama/tokenizer.json"))


def encoded(row, side):
    """Ids of prompt and answer, and where the answer begins; it ends with the end of text."""
    prompt = tokenizer.encode(row["prompt"]).ids
    return torch.tensor(prompt + tokenizer.encode(row[side]).ids + [EOS]), len(prompt)


def words(generator, least, most):
    return "".join(generator.choice(LETTERS) for _ in range(generator.randint(least, most)))


def log_prob(model, ids, start):
    logits = model(input_ids=ids[None], use_cache=False).logits[0, start - 1 : -1]
    return log_softmax(logits, -1).gather(1, ids[start:, None]).sum()


def names_in_files(model):
    def in_file(name):
        name = name.replace(".default", "").replace(".modules_to_save", "")
        return name.removesuffix(".weight") if "lora_magnitude_vector" in name else name

    return {in_file(name): p for name, p in model.named_parameters() if p.requires_grad}


def trace(name, model, rows, loss_of, rate, **facts):
    """Ten AdamW steps with a rate that falls in a line to 0; `loss_of` gets the rows of a step."""
    trained = names_in_files(model)
    start = {key: p.detach().clone() for key, p in trained.items()}
    groups = [
        dict(params=[p for p in trained.values() if p.dim() >= 2], weight_decay=DECAY),
        dict(params=[p for p in trained.values() if p.dim() < 2], weight_decay=0.0),
    ]
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.999), eps=1e-8)
    losses, norms = [], []
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 - step / STEPS)
        optimizer.zero_grad()
        loss = loss_of(rows[step * BATCH : (step + 1) * BATCH])
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(trained.values(), CLIP)))
        optimizer.step()
        losses.append(float(loss.detach()))
    deltas = {f"delta.{key}": (p.detach() - start[key]).float().contiguous() for key, p in trained.items()}
    assert max(norms) > CLIP, f"clipping must be active: {norms}"
    folder = Path(FIXTURES, "preferences")
    save_file(deltas, folder / f"{name}.safetensors")
    options = dict(learningRate=rate, weightDecay=DECAY, maxGradNorm=CLIP, schedule="linear", maxSteps=STEPS, shuffle=False)
    (folder / f"{name}.json").write_text(json.dumps(dict(options=options, **facts, losses=losses, gradNorms=norms, rows=rows)) + "\n")
    print(name, [round(loss, 4) for loss in losses], "norms", [round(norm, 1) for norm in norms])


def language(base):
    return AutoModelForCausalLM.from_pretrained(
        f"{FIXTURES}/models/{base}", dtype=torch.float32, attn_implementation="eager").eval()


def with_adapter(model, folder, trainable=True):
    return PeftModel.from_pretrained(model, f"{FIXTURES}/{folder}", is_trainable=trainable).double().eval()


def pairs(seed):
    generator = random.Random(seed)
    rows = []
    for _ in range(STEPS * BATCH):
        row = dict(prompt=words(generator, 2, 8) + ":", chosen=words(generator, 1, 9), rejected=words(generator, 1, 9))
        if generator.random() < 0.5:
            row["margin"] = round(generator.random(), 2)
        rows.append(row)
    return rows


def reward_trace(name, model, seed, center):
    def score(row, side):
        ids, _ = encoded(row, side)
        return model(input_ids=ids[None], use_cache=False).logits[0, 0]

    def loss_of(rows):
        total = 0.0
        for row in rows:
            better, worse = score(row, "chosen"), score(row, "rejected")
            total = total - logsigmoid(better - worse - row.get("margin", 0.0)) + center * (better + worse) ** 2
        return total / len(rows)

    trace(name, model, pairs(seed), loss_of, 1e-3, center=center)


def dpo_trace(name, model, reference, seed):
    def loss_of(rows):
        total = 0.0
        for row in rows:
            ratios = []
            for side in ("chosen", "rejected"):
                ids, start = encoded(row, side)
                with torch.no_grad():
                    compared = log_prob(reference, ids, start)
                ratios.append(log_prob(model, ids, start) - compared)
            total = total - logsigmoid(0.1 * (ratios[0] - ratios[1]))
        return total / len(rows)

    trace(name, model, [{k: v for k, v in row.items() if k != "margin"} for row in pairs(seed)], loss_of, 1e-3)


def kto_trace(name, model, reference, seed, desirable, undesirable):
    generator = random.Random(seed)
    rows = [
        dict(prompt=words(generator, 2, 8) + ":", completion=words(generator, 1, 9), label=generator.random() < 0.5)
        for _ in range(STEPS * BATCH)
    ]

    def ratio(prompt, completion):
        ids, start = encoded(dict(prompt=prompt, completion=completion), "completion")
        with torch.no_grad():
            compared = log_prob(reference, ids, start)
        return log_prob(model, ids, start) - compared

    levels = []

    def loss_of(rows):
        with torch.no_grad():
            following = rows[1:] + rows[:1]
            z = sum(ratio(row["prompt"], other["completion"]) for row, other in zip(rows, following)) / len(rows)
            z = max(0.0, float(z))
        levels.append(z)
        total = 0.0
        for row in rows:
            x = 0.1 * (ratio(row["prompt"], row["completion"]) - z)
            total = total + (desirable * torch.sigmoid(-x) if row["label"] else undesirable * torch.sigmoid(x))
        return total / len(rows)

    trace(name, model, rows, loss_of, 1e-3, desirableWeight=desirable, undesirableWeight=undesirable, kl=levels)


def classifier(folder, **options):
    return AutoModelForSequenceClassification.from_pretrained(
        f"{FIXTURES}/{folder}", dtype=torch.float32, attn_implementation="eager", **options).eval()


def trl_losses(name, model, pad, **options):
    """The losses of ten steps by TRL's own trainer of whole weights, on the rows of a fixture."""
    import tempfile

    from datasets import Dataset
    from torch.utils.data import SequentialSampler
    from transformers import PreTrainedTokenizerFast
    from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer

    Trainer, Config = (DPOTrainer, DPOConfig) if name == "dpo" else (RewardTrainer, RewardConfig)
    losses = []

    class InOrder(Trainer):
        def _get_train_sampler(self, *_):
            return SequentialSampler(self.train_dataset)

        def compute_loss(self, *arguments, **more):
            result = super().compute_loss(*arguments, **more)
            losses.append(float((result[0] if isinstance(result, tuple) else result).detach()))
            return result

    folder = Path(model.config.name_or_path)
    given = json.loads(Path(FIXTURES, "preferences", f"{name}.json").read_text())
    rows = [{"margin": 0.0, **row} if name == "reward" else row for row in given["rows"]]
    tokens = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), eos_token="<|end|>", pad_token=pad)
    with tempfile.TemporaryDirectory() as output:
        config = Config(
            output_dir=output, per_device_train_batch_size=BATCH, max_steps=STEPS, max_length=64,
            learning_rate=given["options"]["learningRate"], lr_scheduler_type="linear", warmup_steps=0, weight_decay=DECAY,
            max_grad_norm=CLIP, gradient_checkpointing=False, bf16=False, use_cpu=True, report_to=[], save_strategy="no",
            disable_tqdm=True, logging_strategy="no", **options)
        InOrder(model=model, args=config, train_dataset=Dataset.from_list(rows), processing_class=tokens).train()
    apart = max(abs(ours - theirs) for ours, theirs in zip(given["losses"], losses, strict=True))
    print(name, "TRL's losses are off by", apart)
    assert apart < 1e-5


if __name__ == "__main__":
    # Names of the bases stand in the adapters.
    os.chdir(REPOSITORY)
    torch.set_num_threads(1)
    if "--trl" in sys.argv:
        trl_losses("reward", classifier("reward/llama"), "<|pad|>", center_rewards_coefficient=0.01)
        # No row has a line end.
        trl_losses("dpo", language("llama"), "\u010a", beta=0.1)
        sys.exit()
    Path(FIXTURES, "preferences").mkdir(exist_ok=True)
    reward_trace("reward", classifier("reward/llama").double(), 1, 0.01)
    reward_trace("reward-lora", with_adapter(classifier("models/llama", num_labels=1), "reward/llama-lora"), 2, 0.0)
    dpo_trace("dpo", language("llama").double(), language("llama").double(), 3)
    dpo_trace("dpo-lora", with_adapter(language("llama"), "adapters/llama"),
              with_adapter(language("llama"), "adapters/llama", False), 4)
    kto_trace("kto", language("qwen3").double(), language("qwen3").double(), 5, 1.5, 0.75)
