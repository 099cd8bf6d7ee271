"""The peer of speed.mjs: the same work with transformers, and the models of both.

python3 scripts/dev/gpu/peer.py ceilings|sft|lora|decode|make DEVICE full|tiny [small|large]
"""

import json
import os
import sys
import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM

work, device, size = sys.argv[1:4]
dtype = torch.float32 if device == "cpu" else torch.bfloat16
SHAPES = {
    # About 1.5 billion parameters, and a third of the layers of an 8B model.
    "small": dict(hidden_size=1536, intermediate_size=8960, num_hidden_layers=28, num_attention_heads=12, num_key_value_heads=2, vocab_size=151936),
    "large": dict(hidden_size=4096, intermediate_size=14336, num_hidden_layers=10, num_attention_heads=32, num_key_value_heads=8, vocab_size=128256),
    "tiny": dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, vocab_size=512),
}


def folder_of(shape: str) -> str:
    return os.path.join(os.environ.get("TMPDIR", "/tmp"), f"posttrain-gpu-{shape}-{size}")


def make(shape: str) -> None:
    config = LlamaConfig(**SHAPES["tiny" if size == "tiny" else shape], max_position_embeddings=8192, tie_word_embeddings=False, bos_token_id=None, eos_token_id=0)
    with torch.device(device):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).to(dtype)
    model.save_pretrained(folder_of(shape))


def synchronize() -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def timed(run, rounds=7):
    seconds = []
    for i in range(-3, rounds):
        synchronize()
        begun = time.perf_counter()
        run()
        synchronize()
        if i >= 0:
            seconds.append(time.perf_counter() - begun)
    seconds.sort()
    return {"seconds": seconds[len(seconds) // 2], "spread": [seconds[0], seconds[-1]]}


def ceilings() -> dict:
    n = 512 if size == "tiny" else 8192
    a, b = torch.randn(n, n, device=device, dtype=dtype), torch.randn(n, n, device=device, dtype=dtype)
    product = timed(lambda: a @ b)
    source = torch.empty(2**24 if size == "tiny" else 2**32, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = timed(lambda: target.copy_(source))
    return {"tflops": 2 * n**3 / product["seconds"] / 1e12, "copyGBs": 2 * source.numel() / copy["seconds"] / 1e9, "perSecond": 0}


def main() -> None:
    if work == "make":
        return make(sys.argv[4])
    if work == "ceilings":
        result = ceilings()
    elif work == "qlora":
        # bitsandbytes is not assumed: compared with LoRA upon bfloat16.
        result = None
    else:
        result = run()
    if result is not None:
        print("SPEED " + json.dumps({"work": work, **result}))


def run() -> dict:
    model = LlamaForCausalLM.from_pretrained(folder_of("large" if work == "lora" else "small"), dtype=dtype, attn_implementation="sdpa").to(device)
    vocabulary = model.config.vocab_size
    if work == "decode":
        rows, tokens = (4, 8) if size == "tiny" else (32, 64)
        ids = torch.tensor([[(i * 31 + r * 17) % min(vocabulary, 60) for i in range(64)] for r in range(rows)], device=device)
        model.eval()
        with torch.inference_mode():
            times = timed(lambda: model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False), 3)
        return {**times, "perSecond": rows * tokens / times["seconds"]}
    if work == "lora":
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]))
    documents, length = (4, 32) if size == "tiny" else (16, 256)
    ids = torch.tensor([(i * 31 + 7) % vocabulary for i in range(documents * length)], device=device).view(documents, length)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=True)
    losses = []

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = model(ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        losses.append(loss.detach())

    times = timed(step)
    peak = torch.cuda.max_memory_allocated() if device != "cpu" else None
    return {**times, "perSecond": ids.numel() / times["seconds"], "firstLoss": losses[0].item(), "peakBytes": peak}


main()
