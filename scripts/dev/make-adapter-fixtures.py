"""Writes test/fixtures/adapters and test/fixtures/reward: what PEFT and transformers make of adapters and score heads.

Run: python scripts/dev/make-adapter-fixtures.py   (torch 2.13.0, transformers 5.18.0, peft 0.21.0; fixed seed)

adapters/<name>/   A LoRA on a model of test/fixtures/models, saved by PEFT itself; B is not zero. Beside it:
  expected.safetensors   logits.<doc> [T, V] with the adapter on (the merged model's are the same, asserted here),
                         grad.<name>, delta.<name> (five AdamW steps of the adapter alone), as float32 of float64 truth;
                         names are those of adapter_model.safetensors
  expected.json          base, loss, label count, float32's own gradient errors, losses and norms of the steps
reward/<name>/     A tiny whole sequence classifier with num_labels 1, saved by transformers (reward/llama-lora: a PEFT
                   adapter with the score head in modules_to_save, on the language model test/fixtures/models/llama).
  expected.safetensors   of the pairwise loss with margins and centre: grad.<name> of the head and of one weight of the
                         body, delta.<name> of all weights
  expected.json          texts, pairs, margins, center, scores, losses with and without margins, gradient errors, steps

The documents and labels are those of the base's expected.json.
"""

import json
import os
import shutil
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
from transformers import GPT2Config, LlamaConfig, Qwen2Config

REPOSITORY = Path(__file__).resolve().parent.parent.parent
MODELS = "test/fixtures/models"
ADAPTERS = "test/fixtures/adapters"
REWARD = "test/fixtures/reward"
LR, DECAY, CLIP, STEPS = 1e-3, 0.1, 1.0, 5

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CONV1D = dict(target_modules=["c_attn", "c_proj", "c_fc"], fan_in_fan_out=True)
CASES = {
    "gpt2": ("gpt2", CONV1D),
    "gpt2-dora": ("gpt2", dict(CONV1D, use_dora=True)),
    "llama": ("llama", dict(target_modules=LINEAR)),
    "llama-rslora": ("llama", dict(target_modules=LINEAR, use_rslora=True)),
    "llama-dora": ("llama", dict(target_modules=LINEAR, use_dora=True)),
    "llama-subset": ("llama", dict(target_modules=["q_proj", "down_proj"])),
    "mistral": ("mistral", dict(target_modules=LINEAR)),
    "qwen2": ("qwen2", dict(target_modules=LINEAR)),
    "qwen3": ("qwen3", dict(target_modules=LINEAR)),
}

# No text ends with it, but some have it in the middle: the score is read at the last token all the same.
PAD, REWARD_VOCAB = 67, 68
common = dict(
    vocab_size=REWARD_VOCAB, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=64, bos_token_id=None, eos_token_id=0, pad_token_id=PAD, num_labels=1,
    rope_parameters=dict(rope_type="default", rope_theta=10000.0),
)
CLASSIFIERS = {
    "gpt2": (GPT2Config(vocab_size=REWARD_VOCAB, n_embd=16, n_layer=2, n_head=4, n_positions=64, n_inner=24, bos_token_id=0,
                        eos_token_id=0, pad_token_id=PAD, num_labels=1), "transformer.h.0.attn.c_proj.weight"),
    "llama": (LlamaConfig(**common, head_dim=8, tie_word_embeddings=False), "model.layers.0.self_attn.o_proj.weight"),
    "qwen2": (Qwen2Config(**common, tie_word_embeddings=True), "model.embed_tokens.weight"),
}
TEXT_LENGTHS = (9, 4, 13, 1, 6, 11)
# (better, worse): three answers to one prompt make three pairs.
PAIRS = [(0, 1), (2, 3), (4, 2), (4, 3), (5, 0)]
MARGINS = [0.0, 0.5, 0.25, 1.0, 0.0]
CENTER = 0.05


def double(model):
    return model.to(torch.float64).eval()


def trained_of(model):
    """Trainable parameters by their name in the files."""

    def in_file(name):
        name = name.replace(".default", "").replace(".modules_to_save", "")
        return name.removesuffix(".weight") if "lora_magnitude_vector" in name else name

    return {in_file(name): p for name, p in model.named_parameters() if p.requires_grad}


def gradients(truth, single, loss_of):
    """Gradients in float64, and by name their norm and how far float32's are off."""
    for model in (truth, single):
        model.zero_grad()
        loss_of(model).backward()
    own = trained_of(single)
    tensors, errors = {}, {}
    for name, parameter in trained_of(truth).items():
        tensors[f"grad.{name}"] = parameter.grad.float().contiguous()
        errors[name] = [float(parameter.grad.norm()), float((own[name].grad.double() - parameter.grad).norm())]
    return tensors, errors


def steps(truth, loss_of):
    """Five AdamW steps: deltas, losses, gradient norms."""
    trained = trained_of(truth)
    start = {name: p.detach().clone() for name, p in trained.items()}
    optimizer = torch.optim.AdamW(trained.values(), lr=LR, betas=(0.9, 0.999), eps=1e-8, weight_decay=DECAY)
    losses, norms = [], []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = loss_of(truth)
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(trained.values(), CLIP)))
        optimizer.step()
        losses.append(float(loss))
    assert min(norms) > CLIP, f"clipping must be active: {norms}"
    deltas = {f"delta.{name}": (p.detach() - start[name]).float().contiguous() for name, p in trained.items()}
    return deltas, dict(losses=losses, gradNorms=norms,
                        optimizer=dict(learningRate=LR, weightDecay=DECAY, maxGradNorm=CLIP, steps=STEPS))


def randomise(model, generator, scaling=2.0):
    """An adapter in the midst of training: B, the DoRA magnitudes and the score head are not where they start."""
    # Updates of the same size whatever they are multiplied by: larger ones magnify float32's errors step by step.
    deviation = 0.3 * (2.0 / scaling) ** 0.5
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "lora_A" in name or "lora_B" in name:
                parameter.copy_(deviation * noise)
            elif "lora_magnitude_vector" in name:
                parameter.mul_(1 + 0.2 * noise)
            elif "modules_to_save" in name:
                parameter.copy_(0.5 * noise)


def save_adapter(model, folder):
    """As PEFT does; only the lists that it makes from sets are sorted, so that two runs write the same."""
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    (Path(folder) / "README.md").unlink()
    path = Path(folder) / "adapter_config.json"
    config = json.loads(path.read_text())
    for field in ("target_modules", "modules_to_save"):
        config[field] = sorted(config[field]) if config[field] else config[field]
    assert config["base_model_name_or_path"].startswith(MODELS), "no machine path"
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def language_model(base):
    return AutoModelForCausalLM.from_pretrained(f"{MODELS}/{base}", dtype=torch.float32, attn_implementation="eager").eval()


def adapter(name, base, options, seed):
    folder = f"{ADAPTERS}/{name}"
    facts = json.loads(Path(MODELS, base, "expected.json").read_text())
    docs = [(torch.tensor(ids), torch.tensor(labels)) for ids, labels in zip(facts["documents"], facts["labels"])]
    generator = torch.Generator().manual_seed(seed)
    config = LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, bias="none", task_type="CAUSAL_LM", **options)
    made = get_peft_model(language_model(base), config)
    randomise(made, generator, 4.0 if options.get("use_rslora") else 2.0)
    save_adapter(made, folder)

    def logits_of(model):
        return [model(input_ids=ids[None], use_cache=False).logits[0] for ids, _ in docs]

    def loss_of(model):
        total, count = 0.0, 0
        for logits, (_, labels) in zip(logits_of(model), docs):
            total = total + torch.nn.functional.cross_entropy(logits[:-1], labels[1:], ignore_index=-100, reduction="sum")
            count += int((labels[1:] != -100).sum())
        return total / count

    def opened(trainable):
        return PeftModel.from_pretrained(language_model(base), folder, is_trainable=trainable).eval()

    truth = double(opened(True))
    tensors, errors = gradients(truth, opened(True), loss_of)
    assert set(load_file(f"{folder}/adapter_model.safetensors")) == set(errors)
    with torch.no_grad():
        loss = float(loss_of(truth))
        on = logits_of(truth)
        merged = logits_of(double(opened(False)).merge_and_unload())
        off = logits_of(double(language_model(base)))
    for i in range(len(docs)):
        assert (on[i] - merged[i]).abs().max() < 1e-10 and (on[i] - off[i]).abs().max() > 0.1
        tensors[f"logits.{i}"] = on[i].float().contiguous()
    deltas, run = steps(truth, loss_of)
    save_file({**tensors, **deltas}, f"{folder}/expected.safetensors")
    expected = dict(base=base, loss=loss, count=facts["count"], gradients=errors, **run)
    Path(folder, "expected.json").write_text(json.dumps(expected) + "\n")
    print(name, "loss", round(loss, 4), "norms", [round(n, 2) for n in run["gradNorms"]])


def score(model, texts):
    return torch.cat([model(input_ids=text[None], use_cache=False).logits[0] for text in texts])


def pairwise(scores, margins=None, center=0.0):
    better, worse = scores[[b for b, _ in PAIRS]], scores[[w for _, w in PAIRS]]
    margin = 0.0 if margins is None else torch.tensor(margins, dtype=scores.dtype)
    return (-torch.nn.functional.logsigmoid(better - worse - margin) + center * (better + worse) ** 2).mean()


def reward_facts(folder, opened, texts, body):
    """Scores, losses, gradients (of the head and of `body`) and steps of a classifier that `opened` loads."""

    def loss_of(model):
        return pairwise(score(model, texts), MARGINS, CENTER)

    truth = double(opened())
    tensors, errors = gradients(truth, opened().eval(), loss_of)
    kept = {name for name in errors if name.endswith("score.weight") or name == body}
    assert len(kept) == 2, sorted(errors)
    tensors = {f"grad.{name}": tensors[f"grad.{name}"] for name in kept}
    errors = {name: errors[name] for name in errors if name in kept}
    with torch.no_grad():
        scores = score(truth, texts)
        longest = max(len(text) for text in texts)
        padded = torch.stack([torch.nn.functional.pad(text, (0, longest - len(text)), value=PAD) for text in texts])
        if truth.config.pad_token_id == PAD:
            mask = torch.tensor([[int(i < len(text)) for i in range(longest)] for text in texts])
            together = truth(input_ids=padded, attention_mask=mask).logits[:, 0]
            assert (together - scores).abs().max() < 1e-10
        plain, whole = float(pairwise(scores)), float(loss_of(truth))
    deltas, run = steps(truth, loss_of)
    save_file({**tensors, **deltas}, f"{folder}/expected.safetensors")
    expected = dict(
        texts=[text.tolist() for text in texts], pairs=PAIRS, margins=MARGINS, center=CENTER, scores=scores.tolist(),
        plainLoss=plain, loss=whole, gradients=errors, **run,
    )
    Path(folder, "expected.json").write_text(json.dumps(expected) + "\n")
    print(folder, "loss", round(plain, 4), round(whole, 4), "scores", [round(float(s), 2) for s in scores],
          "norms", [round(n, 2) for n in run["gradNorms"]])


def ragged_texts(generator):
    return [torch.randint(1, PAD, (length,), generator=generator) for length in TEXT_LENGTHS]


def classifier(name, config, body, seed):
    folder = f"{REWARD}/{name}"
    shutil.rmtree(folder, ignore_errors=True)
    generator = torch.Generator().manual_seed(seed)
    model = AutoModelForSequenceClassification.from_config(config)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_norm = parameter.dim() == 1 and "bias" not in parameter_name
            parameter.copy_(1 + 0.2 * noise if is_norm else (0.1 if parameter.dim() == 1 else 0.3) * noise)
    model.save_pretrained(folder)
    tokenizer = Tokenizer.from_file(f"{MODELS}/{name}/tokenizer.json")
    tokenizer.add_special_tokens(["<|pad|>"])
    assert tokenizer.token_to_id("<|pad|>") == PAD
    tokenizer.save(f"{folder}/tokenizer.json")
    Path(folder, "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|end|>", "pad_token": "<|pad|>"}) + "\n")
    texts = ragged_texts(generator)
    texts[2][5] = PAD
    reward_facts(folder, lambda: AutoModelForSequenceClassification.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"), texts, body)


def adapted_classifier(base, seed):
    folder = f"{REWARD}/{base}-lora"
    generator = torch.Generator().manual_seed(seed)

    def body():
        return AutoModelForSequenceClassification.from_pretrained(
            f"{MODELS}/{base}", num_labels=1, dtype=torch.float32, attn_implementation="eager")

    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "up_proj"], task_type="SEQ_CLS")
    made = get_peft_model(body(), config)
    randomise(made, generator)
    save_adapter(made, folder)
    texts = [text % 66 + 1 for text in ragged_texts(generator)]
    reward_facts(folder, lambda: PeftModel.from_pretrained(body(), folder, is_trainable=True), texts,
                 "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight")
    assert set(load_file(f"{folder}/adapter_model.safetensors")) == {
        name.removeprefix("delta.") for name in load_file(f"{folder}/expected.safetensors") if name.startswith("delta.")}


if __name__ == "__main__":
    # Names of the bases are written into the adapters.
    os.chdir(REPOSITORY)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for index, (case, (base_name, given)) in enumerate(CASES.items()):
        adapter(case, base_name, given, 300 + index)
    for index, (family, (classifier_config, body_name)) in enumerate(CLASSIFIERS.items()):
        classifier(family, classifier_config, body_name, 400 + index)
    adapted_classifier("llama", 410)
