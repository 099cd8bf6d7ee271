"""Writes test/fixtures/policy: one whole update of PPO (actor and critic), GRPO and RLOO from fixed answers, in float64.

Run: python scripts/dev/make-policy-fixtures.py   (torch 2.13.0, transformers 5.18.0; fixed seed)

Written out here answer by answer, with no batching and no padding, over transformers' own models: actor and critic are
test/fixtures/models/qwen3, the reference is test/fixtures/models/llama (another model of the same vocabulary, so that
the KL is not zero). Files:
  expected.json         answers, options, the order of each pass, and for each recipe the metrics, and how far float32 is
                        from float64 in the same code ("float32": relative error of the whole update)
  <name>.safetensors    what each parameter moved by, as float32 of the float64 truth: ppo-actor, ppo-critic, grpo, rloo
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

MODELS = Path(__file__).resolve().parent.parent.parent / "test" / "fixtures" / "models"
ROOT = MODELS.parent / "policy"
VOCAB, EOS, HIDDEN = 67, 0, 24
draw = torch.Generator().manual_seed(20170707)

# Orders of lib/data/random.ts for 6 answers, seed 7, iteration 2; the test checks that they are so still.
ORDERS = [[0, 1, 3, 5, 2, 4], [5, 1, 4, 3, 2, 0], [5, 0, 3, 2, 4, 1]]
PROMPTS = [torch.randint(1, VOCAB, (n,), generator=draw).tolist() for n in (5, 2)]
LENGTHS = [4, 1, 7, 3, 8, 2]
STOPPED = [True, True, False, True, False, True]
GROUP = 3
ANSWERS = [
    [*torch.randint(1, VOCAB, (n - stopped,), generator=draw).tolist(), *([EOS] if stopped else [])]
    for n, stopped in zip(LENGTHS, STOPPED)
]
TEXTS = [(PROMPTS[i // GROUP], answer) for i, answer in enumerate(ANSWERS)]
SCORES = torch.randn(6, generator=draw, dtype=torch.float64).tolist()
HEAD = (torch.randn(1, HIDDEN, generator=draw) / HIDDEN**0.5).float()

COMMON = dict(temperature=0.8, learningRate=3e-4, weightDecay=0.1, maxGradNorm=0.5, miniBatches=2, maxNewTokens=8)
PPO = dict(**COMMON, epochs=3, criticLearningRate=6e-4, klCoef=0.04, clip=0.2, valueClip=0.2, gamma=0.98, lam=0.9,
           entropyCoef=0.01, missingEosPenalty=0.7)
GRPO = dict(**COMMON, epochs=2, klCoef=0.05, clipLow=0.2, clipHigh=0.3)
RLOO = dict(**COMMON, epochs=2, klCoef=0.02, clip=0.2)


def load(name, dtype):
    return AutoModelForCausalLM.from_pretrained(MODELS / name, dtype=torch.float32, attn_implementation="eager").to(dtype).eval()


def log_softmax(model, prompt, answer, temperature):
    """Of the whole vocabulary where each token of the answer is chosen, [n, V]."""
    logits = model(input_ids=torch.tensor([prompt + answer]), use_cache=False).logits[0]
    return (logits[len(prompt) - 1 : -1] / temperature).log_softmax(-1)


def chosen(rows, answer):
    return rows.gather(1, torch.tensor(answer)[:, None])[:, 0]


class Critic(torch.nn.Module):
    def __init__(self, dtype):
        super().__init__()
        self.model = load("qwen3", dtype).model
        self.score = torch.nn.Linear(HIDDEN, 1, bias=False, dtype=dtype)
        self.score.weight.data.copy_(HEAD)

    def forward(self, prompt, answer):
        hidden = self.model(input_ids=torch.tensor([prompt + answer]), use_cache=False).last_hidden_state[0]
        return self.score(hidden)[len(prompt) - 1 : -1, 0]


def optimizer_of(model, rate, decay):
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    groups = [dict(params=matrices, weight_decay=decay), dict(params=others, weight_decay=0.0)]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.999), eps=1e-8)


def step(model, optimizer, loss, limit):
    optimizer.zero_grad()
    loss.backward()
    norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), limit))
    optimizer.step()
    return norm


def mini_batches(options):
    for order in ORDERS[: options["epochs"]]:
        half = len(order) // options["miniBatches"]
        for i in range(options["miniBatches"]):
            yield order[i * half : (i + 1) * half]


def start(dtype, options):
    torch.set_default_dtype(dtype)
    actor, reference = load("qwen3", dtype), load("llama", dtype)
    t = options["temperature"]
    with torch.no_grad():
        old = [chosen(log_softmax(actor, p, a, t), a) for p, a in TEXTS]
        ref = [chosen(log_softmax(reference, p, a, t), a) for p, a in TEXTS]
    return actor, old, ref, optimizer_of(actor, options["learningRate"], options["weightDecay"])


def moved(model, before):
    return {name: p.detach() - before[name] for name, p in model.named_parameters()}


def state(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def ppo(dtype):
    o = PPO
    actor, old, ref, actor_optimizer = start(dtype, o)
    critic = Critic(dtype)
    critic_optimizer = optimizer_of(critic, o["criticLearningRate"], o["weightDecay"])
    before = state(actor), state(critic)
    with torch.no_grad():
        old_values = [critic(p, a) for p, a in TEXTS]
    advantages, returns, reward = [], [], 0.0
    for i in range(len(TEXTS)):
        rewards = -o["klCoef"] * (old[i] - ref[i])
        rewards[-1] += SCORES[i] - (0 if STOPPED[i] else o["missingEosPenalty"])
        reward += float(rewards.sum()) / len(TEXTS)
        values, n = old_values[i], len(rewards)
        advantage, following, result = torch.zeros(()), torch.zeros(()), [None] * n
        for t in reversed(range(n)):
            advantage = rewards[t] + o["gamma"] * following - values[t] + o["gamma"] * o["lam"] * advantage
            following, result[t] = values[t], advantage
        advantages.append(torch.stack(result))
        returns.append(advantages[-1] + values)
    every = torch.cat(advantages)
    advantages = [(a - every.mean()) / (every.var(unbiased=True) + 1e-8).sqrt() for a in advantages]
    sums = dict(policy=0.0, value=0.0, clipped=0.0, valueClipped=0.0, kl=0.0, ratio=0.0, entropy=0.0, tokens=0)
    norms, losses = [], []
    for batch in mini_batches(o):
        count = sum(LENGTHS[i] for i in batch)
        policy, value, entropy = 0.0, 0.0, 0.0
        for i in batch:
            rows = log_softmax(actor, *TEXTS[i], o["temperature"])
            difference = chosen(rows, ANSWERS[i]) - old[i]
            ratio, a = difference.exp(), advantages[i]
            first, second = -a * ratio, -a * ratio.clamp(1 - o["clip"], 1 + o["clip"])
            policy = policy + torch.max(first, second).sum()
            entropy = entropy - (rows.exp() * rows).sum()
            v = critic(*TEXTS[i])
            bounded = torch.max(torch.min(v, old_values[i] + o["valueClip"]), old_values[i] - o["valueClip"])
            plain, bound = (v - returns[i]) ** 2, (bounded - returns[i]) ** 2
            value = value + 0.5 * torch.max(plain, bound).sum()
            sums["clipped"] += float((second > first).sum())
            sums["valueClipped"] += float((bound > plain).sum())
            sums["kl"] += float(0.5 * (difference.detach() ** 2).sum())
            sums["ratio"] += float(ratio.detach().sum())
        loss = (policy - o["entropyCoef"] * entropy) / count
        losses.append(float(loss.detach()))
        norms.append((step(actor, actor_optimizer, loss, o["maxGradNorm"]), step(critic, critic_optimizer, value / count, o["maxGradNorm"])))
        sums["policy"] += float((policy - o["entropyCoef"] * entropy).detach())
        sums["value"] += float(value.detach())
        sums["tokens"] += count
    assert all(n > o["maxGradNorm"] for n in norms[0]), f"clipping must be active: {norms}"
    assert sums["clipped"] > 0 and sums["valueClipped"] > 0, sums
    n = sums["tokens"]
    metrics = dict(
        policyLoss=sums["policy"] / n, loss=sum(losses) / len(losses), valueLoss=sums["value"] / n, clipFraction=sums["clipped"] / n,
        valueClipFraction=sums["valueClipped"] / n, approxKl=sums["kl"] / n, ratioMean=sums["ratio"] / n, reward=reward,
        gradNorm=sum(a for a, _ in norms) / len(norms), valueGradNorm=sum(c for _, c in norms) / len(norms),
        kl=sum(float((p - q).sum()) for p, q in zip(old, ref)) / len(old),
    )
    return {"ppo-actor": moved(actor, before[0]), "ppo-critic": moved(critic, before[1])}, metrics


def grpo(dtype):
    o = GRPO
    actor, old, ref, optimizer = start(dtype, o)
    before = state(actor)
    scores = torch.tensor(SCORES).view(-1, GROUP)
    advantages = ((scores - scores.mean(1, keepdim=True)) / (scores.std(1, keepdim=True) + 1e-4)).flatten()
    losses, norms, clipped = [], [], 0.0
    for batch in mini_batches(o):
        count, loss = sum(LENGTHS[i] for i in batch), 0.0
        for i in batch:
            new = chosen(log_softmax(actor, *TEXTS[i], o["temperature"]), ANSWERS[i])
            ratio, a = (new - old[i]).exp(), advantages[i]
            first, second = -a * ratio, -a * ratio.clamp(1 - o["clipLow"], 1 + o["clipHigh"])
            k3 = (ref[i] - new).exp() - (ref[i] - new) - 1
            loss = loss + (torch.max(first, second) + o["klCoef"] * ratio * k3).sum()
            clipped += float((second > first).sum())
        losses.append(float(loss.detach() / count))
        norms.append(step(actor, optimizer, loss / count, o["maxGradNorm"]))
    assert clipped > 0
    return {"grpo": moved(actor, before)}, dict(loss=sum(losses) / len(losses), gradNorm=sum(norms) / len(norms))


def rloo(dtype):
    o = RLOO
    actor, old, ref, optimizer = start(dtype, o)
    before = state(actor)
    rewards = torch.tensor([s - o["klCoef"] * float((p - q).sum()) for s, p, q in zip(SCORES, old, ref)]).view(-1, GROUP)
    advantages = (rewards - (rewards.sum(1, keepdim=True) - rewards) / (GROUP - 1)).flatten()
    losses, norms, clipped = [], [], 0.0
    for batch in mini_batches(o):
        loss = 0.0
        for i in batch:
            new = chosen(log_softmax(actor, *TEXTS[i], o["temperature"]), ANSWERS[i])
            ratio, a = (new - old[i]).sum().exp(), advantages[i]
            first, second = -a * ratio, -a * ratio.clamp(1 - o["clip"], 1 + o["clip"])
            loss = loss + torch.max(first, second)
            clipped += float(second > first)
        losses.append(float(loss.detach() / len(batch)))
        norms.append(step(actor, optimizer, loss / len(batch), o["maxGradNorm"]))
    assert clipped > 0
    return {"rloo": moved(actor, before)}, dict(loss=sum(losses) / len(losses), gradNorm=sum(norms) / len(norms), reward=float(rewards.mean()))


def camel(options):
    return {"lambda" if name == "lam" else name: value for name, value in options.items()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    ROOT.mkdir(parents=True, exist_ok=True)
    facts = dict(prompts=PROMPTS, answers=ANSWERS, stopped=STOPPED, scores=SCORES, groupSize=GROUP, orders=ORDERS, head=HEAD.flatten().tolist())
    for name, run, options in (("ppo", ppo, PPO), ("grpo", grpo, GRPO), ("rloo", rloo, RLOO)):
        truth, metrics = run(torch.float64)
        single, _ = run(torch.float32)
        errors = {}
        for part, deltas in truth.items():
            off = sum(float((single[part][k].double() - v).norm()) ** 2 for k, v in deltas.items())
            errors[part] = (off / sum(float(v.norm()) ** 2 for v in deltas.values())) ** 0.5
            save_file({k: v.float().contiguous() for k, v in deltas.items()}, ROOT / f"{part}.safetensors")
        facts[name] = dict(options=camel(options), metrics=metrics, float32=errors)
        print(name, metrics, "float32 is off by", errors)
    (ROOT / "expected.json").write_text(json.dumps(facts) + "\n")
