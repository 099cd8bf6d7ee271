"""Writes test/fixtures/models: tiny random models of every family and what transformers says of them in float64.

Run: python scripts/dev/make-fixtures.py   (torch 2.13.0, transformers 5.18.0; fixed seed)

Each folder is a Hugging Face model with a few thousand weights, with the traps of its family turned on. Beside it:
  expected.safetensors   logits.<doc> [T, V], grad.<name>, delta.<name> (five AdamW steps), as float32 of float64 truth
  expected.json          documents, labels, loss, float32's own gradient errors, greedy continuations
"""

import json
import math
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM
from transformers import optimization
from transformers import GPT2Config, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

ROOT = Path(__file__).resolve().parent.parent.parent / "test" / "fixtures" / "models"
VOCAB = 67
LENGTHS = (13, 7, 20)
# qwen3's pad token, which stands in its documents: transformers gives it no gradient as an input.
PAD = 11
LR, DECAY, CLIP, STEPS = 1e-3, 0.1, 1.0, 5

common = dict(
    vocab_size=VOCAB, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=64, bos_token_id=None, eos_token_id=0, pad_token_id=None,
)
FAMILIES = {
    "gpt2": (GPT2Config(vocab_size=VOCAB, n_embd=24, n_layer=2, n_head=4, n_positions=64, n_inner=40,
                        bos_token_id=0, eos_token_id=0, resid_pdrop=0.1, attn_pdrop=0.1, embd_pdrop=0.1), torch.float32, False),
    "llama": (LlamaConfig(**common, head_dim=8, attention_bias=True, mlp_bias=True, tie_word_embeddings=True, rms_norm_eps=1e-5,
                          rope_parameters=dict(rope_type="llama3", rope_theta=500000.0, factor=4.0, low_freq_factor=1.0,
                                               high_freq_factor=4.0, original_max_position_embeddings=16)), torch.float32, False),
    "mistral": (MistralConfig(**common, head_dim=8, sliding_window=5, tie_word_embeddings=False,
                              rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=2.0)), torch.float16, True),
    "qwen2": (Qwen2Config(**common, tie_word_embeddings=True, use_sliding_window=False, sliding_window=3, max_window_layers=0,
                          rope_parameters=dict(rope_type="yarn", rope_theta=10000.0, factor=4.0,
                                               original_max_position_embeddings=16)), torch.float32, False),
    "qwen2-sliding": (Qwen2Config(**common, tie_word_embeddings=False, use_sliding_window=True, sliding_window=6,
                                  max_window_layers=1, rope_parameters=dict(rope_type="default", rope_theta=1000000.0)),
                      torch.bfloat16, True),
    "qwen3": (Qwen3Config(**{**common, "pad_token_id": PAD}, head_dim=10, tie_word_embeddings=False, attention_bias=False,
                          rope_parameters=dict(rope_type="default", rope_theta=1000000.0)), torch.float32, False),
}


def tokenizer_json(folder: Path) -> None:
    alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:"
    vocab = {"<|end|>": 0, **{c: i + 1 for i, c in enumerate(alphabet)}, "\u0120": len(alphabet) + 1, "\u010a": len(alphabet) + 2}
    assert len(vocab) <= VOCAB
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|end|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|end|>"}) + "\n")


def documents(generator, padded):
    docs = []
    for length in LENGTHS:
        ids = torch.randint(1, VOCAB, (length,), generator=generator)
        if padded:
            ids[length // 2 + 1] = PAD
        labels = ids.clone()
        labels[: length // 3] = -100
        labels[length // 2] = -100
        docs.append((ids, labels))
    return docs


def loss_of(model, docs):
    total, count = 0.0, 0
    for ids, labels in docs:
        logits = model(input_ids=ids[None], use_cache=False).logits[0]
        logits = logits.double() if logits.dtype == torch.float64 else logits.float()
        total = total + torch.nn.functional.cross_entropy(logits[:-1], labels[1:], ignore_index=-100, reduction="sum")
        count += int((labels[1:] != -100).sum())
    return total / count, count


def load(folder: Path, dtype):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").to(dtype)
    return model.eval()


def greedy(model, ids, count):
    ids = ids.clone()
    for _ in range(count):
        with torch.no_grad():
            logits = model(input_ids=ids[None], use_cache=False).logits[0, -1]
        ids = torch.cat([ids, logits.argmax()[None]])
    return ids[-count:].tolist()


def make(name, config, dtype, sharded, seed):
    folder = ROOT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_norm = parameter.dim() == 1 and "bias" not in parameter_name
            parameter.copy_(1 + 0.2 * noise if is_norm else (0.1 if parameter.dim() == 1 else 0.25) * noise)
    model = model.to(dtype)
    model.save_pretrained(folder, max_shard_size="12KB" if sharded else "5GB")
    tokenizer_json(folder)

    docs = documents(generator, name == "qwen3")
    tensors, facts = {}, {}
    truth = load(folder, torch.float64)
    loss, count = loss_of(truth, docs)
    loss.backward()
    single = load(folder, torch.float32)
    loss_of(single, docs)[0].backward()
    singles = dict(single.named_parameters())
    errors = {}
    for parameter_name, parameter in truth.named_parameters():
        tensors[f"grad.{parameter_name}"] = parameter.grad.float().contiguous()
        difference = singles[parameter_name].grad.double() - parameter.grad
        errors[parameter_name] = [float(parameter.grad.norm()), float(difference.norm())]
    with torch.no_grad():
        for i, (ids, _) in enumerate(docs):
            tensors[f"logits.{i}"] = truth(input_ids=ids[None], use_cache=False).logits[0].float().contiguous()
    prompts = [docs[0][0][:4], docs[1][0][:1], docs[2][0][:9]]
    continuations = [greedy(truth, prompt, 14) for prompt in prompts]

    start = {n: p.detach().clone() for n, p in truth.named_parameters()}
    optimizer = torch.optim.AdamW(truth.parameters(), lr=LR, betas=(0.9, 0.999), eps=1e-8, weight_decay=DECAY)
    losses, norms = [], []
    for _ in range(STEPS):
        optimizer.zero_grad()
        step_loss, _ = loss_of(truth, docs)
        step_loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(truth.parameters(), CLIP)))
        optimizer.step()
        losses.append(float(step_loss))
    assert norms[0] > CLIP, "clipping must be active"
    for parameter_name, parameter in truth.named_parameters():
        tensors[f"delta.{parameter_name}"] = (parameter.detach() - start[parameter_name]).float().contiguous()

    facts.update(
        documents=[ids.tolist() for ids, _ in docs], labels=[labels.tolist() for _, labels in docs], loss=float(loss), count=count,
        gradients=errors, losses=losses, gradNorms=norms, prompts=[p.tolist() for p in prompts], continuations=continuations,
        optimizer=dict(learningRate=LR, weightDecay=DECAY, maxGradNorm=CLIP, steps=STEPS),
    )
    save_file(tensors, folder / "expected.safetensors")
    (folder / "expected.json").write_text(json.dumps(facts) + "\n")
    print(name, "loss", round(float(loss), 4), "norm", round(norms[0], 3), "files", sorted(p.name for p in folder.iterdir()))


def functions():
    generator = torch.Generator().manual_seed(7)
    logits = torch.randn(6, 11, generator=generator, dtype=torch.float64) * 3
    labels = torch.tensor([3, -100, 0, 10, -100, 5])
    logits.requires_grad_(True)
    loss = torch.nn.functional.cross_entropy(logits, labels, ignore_index=-100)
    loss.backward()
    schedules = {}
    for name, kind, extra in (
        ("constant", "constant_with_warmup", {}),
        ("linear", "linear", {}),
        ("cosine", "cosine_with_min_lr", {"min_lr_rate": 0.05}),
    ):
        parameter = torch.nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.SGD([parameter], lr=1.0)
        schedule = optimization.get_scheduler(kind, optimizer, 7, 50, scheduler_specific_kwargs=extra)
        rates = []
        for _ in range(50):
            rates.append(schedule.get_last_lr()[0])
            optimizer.step()
            schedule.step()
        schedules[name] = rates
    value = dict(
        crossEntropy=dict(logits=logits.detach().flatten().tolist(), labels=labels.tolist(), loss=float(loss),
                          gradient=logits.grad.flatten().tolist()),
        schedules=schedules,
    )
    (ROOT.parent / "functions.json").write_text(json.dumps(value) + "\n")
    assert math.isfinite(float(loss))


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for index, (family, (config, dtype, sharded)) in enumerate(FAMILIES.items()):
        make(family, config, dtype, sharded, 100 + index)
    functions()
