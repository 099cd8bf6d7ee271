"""Writes test/fixtures/losses: the plain losses of alignment in float64, values and torch's gradients.

Run: python scripts/dev/make-loss-fixtures.py [OUTPUT]   (torch 2.13.0, trl 1.13.0; fixed seed)

What says the truth:
  dpo.json         TRL's own DPOTrainer._compute_loss, run on a stub trainer whose model gives chosen logits; cdpo is its
                   'aot' of one pair at a time; simpo and orpo are CPOTrainer.cpo_loss and ORPOTrainer.odds_ratio_loss
  kto.json         KTOTrainer._compute_loss on a stub
  reward.json      RewardTrainer.compute_loss on a stub; weights, which it lacks, are written out here
  grpo.json        GRPOTrainer._compute_loss on a stub
  advantages.json  GRPO and RLOO: the lines of TRL's trainers that compute them, run again; gae and whiten: slow loops here
  ppo.json, kl.json  written out here from the papers (TRL 1.13 has no PPO): arXiv 1707.06347, 1912.09729 (dual clip),
                   Schulman's "Approximating KL divergence"; the textbook's ppo_loss and compute_kl_penalty as they stand

Each file is a list of { name, call, input, expected }: `input` are the options of the function `call`, arrays as lists;
`expected` holds what it returns.
"""

import collections
import inspect
import json
import os
import sys
import textwrap
import warnings
from pathlib import Path
from types import SimpleNamespace

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
warnings.filterwarnings("ignore")

import torch
import torch.nn.functional as F
from trl import DPOTrainer, GRPOTrainer, KTOTrainer, RewardTrainer, RLOOTrainer
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer
from trl.trainer.utils import nanstd

torch.set_default_dtype(torch.float64)
# TRL casts to float32 in places, which would be less than the truth.
torch.Tensor.float = torch.Tensor.double
draw = torch.Generator().manual_seed(20230914)
ROOT = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent.parent / "test" / "fixtures" / "losses"


def normal(*shape, scale=1.0):
    return torch.randn(*shape, generator=draw) * scale


def log_prob(*shape):
    return -0.05 - 3 * torch.rand(*shape, generator=draw)


def leaf(x):
    return x.detach().clone().requires_grad_()


def plain(x):
    if isinstance(x, torch.Tensor):
        return x.detach().tolist()
    if isinstance(x, dict):
        return {key: plain(value) for key, value in x.items()}
    return x


class File:
    def __init__(self, name):
        self.path, self.cases = ROOT / name, []

    def add(self, name, call, given, expected):
        self.cases.append({"name": name, "call": call, "input": plain(given), "expected": plain(expected)})

    def write(self):
        rows = ",\n".join(json.dumps(case, allow_nan=False) for case in self.cases)
        self.path.write_text(f"[\n{rows}\n]\n", encoding="utf-8")
        print(f"{self.path.name}: {len(self.cases)} cases, {self.path.stat().st_size} bytes")


def gradient(loss, *of):
    result = torch.autograd.grad(loss, of, retain_graph=True)
    return result[0] if len(of) == 1 else result


def mean_of(x, mask):
    return x.sum() / x.numel() if mask is None else (x * mask).sum() / mask.sum()


# PPO


def ppo_clip(log_probs, old, advantages, mask=None, clip=0.2, dual=None):
    difference = (log_probs - old).clamp(-20, 20)
    ratio = difference.exp()
    first, second = -advantages * ratio, -advantages * ratio.clamp(1 - clip, 1 + clip)
    loss = torch.max(first, second)
    clipped = second > first
    if dual is not None:
        bound = -advantages * dual
        clipped = clipped | ((advantages < 0) & (loss > bound))
        loss = torch.where(advantages < 0, torch.min(loss, bound), loss)
    loss = mean_of(loss, mask)
    approx_kl = mean_of(0.5 * (log_probs - old) ** 2, mask)
    fraction = mean_of(clipped.double(), mask)
    return dict(loss=loss, clipFraction=fraction, approxKl=approx_kl, gradient=gradient(loss, log_probs))


def ppo():
    file = File("ppo.json")
    n = 24
    log_probs = leaf(log_prob(n))
    old, advantages = log_probs.detach() + normal(n, scale=0.6), normal(n)
    mask = (torch.rand(n, generator=draw) < 0.7).double()
    ratio = (log_probs - old).exp()
    sides = [((ratio < 0.8) & (advantages < 0)), ((ratio > 1.2) & (advantages > 0)), ((ratio > 1.5) & (advantages < 0))]
    assert all((side & (mask > 0)).any() for side in sides), "every side of the clip must be met"
    given = dict(logProbs=log_probs, oldLogProbs=old, advantages=advantages)
    masked = dict(**given, mask=mask.int())
    case = lambda name, options, **more: file.add(name, "ppoClipLoss", {**options, **more}, ppo_clip(
        log_probs, old, advantages, mask if "mask" in options else None, more.get("clip", 0.2), more.get("dualClip")))
    case("clip 0.2", given)
    case("clip 0.2 with a mask", masked)
    case("clip 0.05 with a mask", masked, clip=0.05)
    case("dual clip 1.5 with a mask", masked, dualClip=1.5)

    far = leaf(torch.tensor([-30.0, -1.0, -0.5, -25.0]))
    far_old, far_advantages = torch.tensor([-1.0, -31.0, -0.4, -0.5]), torch.tensor([1.0, -2.0, 0.5, -1.0])
    file.add("log-ratios beyond 20 are clamped", "ppoClipLoss", dict(logProbs=far, oldLogProbs=far_old, advantages=far_advantages),
             ppo_clip(far, far_old, far_advantages))

    values = leaf(normal(n))
    old_values, returns = values.detach() + normal(n, scale=0.4), values.detach() + normal(n, scale=0.5)
    for name, clip, counted in (("clip 0.2", 0.2, None), ("clip 0.1 with a mask", 0.1, mask), ("no clip, with a mask", None, mask)):
        bounded = values if clip is None else torch.max(torch.min(values, old_values + clip), old_values - clip)
        first, second = (values - returns) ** 2, (bounded - returns) ** 2
        loss = 0.5 * mean_of(torch.max(first, second), counted)
        options = dict(values=values, oldValues=old_values, returns=returns, clip=clip)
        if counted is not None:
            options["mask"] = counted.int()
        fraction = mean_of((second > first).double(), counted)
        assert clip is None or fraction > 0
        file.add(f"value loss, {name}", "ppoValueLoss", options,
                 dict(loss=loss, clipFraction=fraction, gradient=gradient(loss, values)))

    # The textbook's function.
    def ppo_loss(new_log_probs, old_log_probs, advantages, clip_ratio=0.2):
        ratio = torch.exp(new_log_probs - old_log_probs)
        clipped = torch.clamp(ratio, 1 - clip_ratio, 1 + clip_ratio) * advantages
        return -torch.min(ratio * advantages, clipped).mean()

    loss = ppo_loss(log_probs, old, advantages)
    file.add("the textbook's ppo_loss", "ppoClipLoss", given, dict(loss=loss, gradient=gradient(loss, log_probs)))
    file.write()


def kl():
    file = File("kl.json")
    n = 15
    log_probs = leaf(log_prob(n))
    reference = log_probs.detach() + normal(n, scale=0.7)
    mask = (torch.rand(n, generator=draw) < 0.6).double()
    difference = log_probs - reference
    estimates = dict(k1=difference, k2=0.5 * difference**2, k3=(-difference).exp() - 1 + difference)
    for estimator, values in estimates.items():
        for counted, coefficient in ((None, 0.1), (mask, 0.37)):
            loss = coefficient * mean_of(values, counted)
            options = dict(logProbs=log_probs, referenceLogProbs=reference, estimator=estimator, coefficient=coefficient)
            if counted is not None:
                options["mask"] = counted.int()
            file.add(f"{estimator}{'' if counted is None else ' with a mask'}", "klPenalty", options,
                     dict(loss=loss, gradient=gradient(loss, log_probs)))
    rows, columns = 5, 7
    p, q = leaf(normal(rows, columns, scale=2).log_softmax(-1)), normal(rows, columns, scale=2).log_softmax(-1)
    flat = dict(logProbs=p.flatten(), referenceLogProbs=q.flatten(), columns=columns, estimator="full")
    for direction, coefficient in (("forward", 0.1), ("forward", 0.5), ("reverse", 0.1)):
        rows_of = (q.exp() * (q - p)) if direction == "forward" else (p.exp() * (p - q))
        loss = coefficient * rows_of.sum(-1).mean()
        file.add(f"full {direction} {coefficient}", "klPenalty", dict(**flat, direction=direction, coefficient=coefficient),
                 dict(loss=loss, gradient=gradient(loss, p).flatten()))

    # The textbook's function.
    def compute_kl_penalty(log_probs, reference_log_probs, kl_coef=0.1):
        kl = torch.sum(torch.exp(reference_log_probs) * (reference_log_probs - log_probs), dim=-1)
        return (kl_coef * kl).mean()

    loss = compute_kl_penalty(p, q)
    file.add("the textbook's compute_kl_penalty", "klPenalty", flat, dict(loss=loss, gradient=gradient(loss, p).flatten()))
    file.write()


# Advantages


def slow_gae(rewards, values, gamma, lam):
    """A_t as the sum over l of (gamma lambda)^l delta_{t+l}, every sum from its start."""
    length = len(rewards)
    delta = [rewards[t] + gamma * (values[t + 1] if t + 1 < length else 0.0) - values[t] for t in range(length)]
    return [sum((gamma * lam) ** l * delta[t + l] for l in range(length - t)) for t in range(length)]


def slow_whiten(values, mask, shift):
    counted = [v for v, m in zip(values, mask) if m]
    mean = sum(counted) / len(counted)
    variance = sum((v - mean) ** 2 for v in counted) / (len(counted) - 1)
    return [((v - mean) / (variance + 1e-8) ** 0.5 + (0 if shift else mean)) if m else 0.0 for v, m in zip(values, mask)]


def lines_of(function, first, last):
    """The lines of a function from the one that holds `first` to the one that holds `last`."""
    lines = inspect.getsource(function).splitlines()
    start = next(i for i, line in enumerate(lines) if first in line)
    end = next(i for i, line in enumerate(lines) if i >= start and last in line)
    return compile(textwrap.dedent("\n".join(lines[start : end + 1])), "trl", "exec")


def advantages():
    file = File("advantages.json")
    lengths = [4, 1, 7, 2]
    offsets = [sum(lengths[:i]) for i in range(len(lengths) + 1)]
    rewards, values = normal(offsets[-1]).tolist(), normal(offsets[-1]).tolist()
    for gamma, lam in ((1.0, 0.95), (0.9, 0.8), (1.0, 1.0), (0.99, 0.0)):
        parts = [slow_gae(rewards[a:b], values[a:b], gamma, lam) for a, b in zip(offsets, offsets[1:])]
        result = [x for part in parts for x in part]
        file.add(f"gae gamma {gamma} lambda {lam}", "gae", dict(rewards=rewards, values=values, offsets=offsets, gamma=gamma, **{"lambda": lam}),
                 dict(advantages=result, returns=[a + v for a, v in zip(result, values)]))
    mask = [int(x) for x in torch.rand(offsets[-1], generator=draw) < 0.6]
    for shift in (True, False):
        for counted in (None, mask):
            options = dict(values=values, shiftMean=shift, **({} if counted is None else {"mask": counted}))
            file.add(f"whiten{'' if shift else ' without shift'}{'' if counted is None else ' with a mask'}", "whiten", options,
                     dict(values=slow_whiten(values, counted or [1] * len(values), shift)))

    size = 4
    scores = normal(3, size)
    scores[1] = 0.5
    grpo = lines_of(GRPOTrainer._generate_and_score_completions, "if self.multi_objective_aggregation ==", "torch.nan_to_num(advantages")
    rloo = lines_of(RLOOTrainer._generate_and_score_completions, "grouped_rewards = rewards.view", "torch.nan_to_num(advantages")
    for scale in ("group", "batch", "none"):
        given = dict(torch=torch, nanstd=nanstd, device="cpu", num_generations=size, rewards_per_func=scores.view(-1, 1),
                     unscorable_mask=torch.zeros(scores.numel(), dtype=torch.bool),
                     self=SimpleNamespace(multi_objective_aggregation="sum_then_normalize", scale_rewards=scale, reward_weights=torch.ones(1)))
        exec(grpo, given)
        file.add(f"grpo advantages by {scale}", "grpoAdvantages", dict(rewards=scores.flatten(), groupSize=size, scaleRewards=scale),
                 dict(advantages=given["advantages"], withoutSpread=1))
    given = dict(torch=torch, nanstd=nanstd, num_generations=size, rewards=scores.flatten(), self=SimpleNamespace(normalize_advantages=False))
    exec(rloo, given)
    file.add("rloo advantages", "rlooAdvantages", dict(rewards=scores.flatten(), groupSize=size), dict(advantages=given["advantages"]))
    file.write()


# Stubs of TRL's trainers


def same(x, *_, **__):
    return x


def stub(**more):
    accelerator = SimpleNamespace(device=torch.device("cpu"), num_processes=1, gather=same, gather_for_metrics=same, reduce=same)
    metrics = {"train": collections.defaultdict(list), "eval": collections.defaultdict(list)}
    return SimpleNamespace(accelerator=accelerator, model=SimpleNamespace(training=False), _metrics=metrics,
                           aux_loss_enabled=False, _total_train_tokens=0, **more)


def answers(lengths):
    """Per-token log-probabilities [N, T] as a leaf, and the mask of TRL's inputs [N, T + 1], a prompt token first."""
    width = max(lengths)
    mask = torch.tensor([[0] + [1] * length + [0] * (width - length) for length in lengths])
    return leaf(log_prob(len(lengths), width)), mask


def model_of(tokens):
    """A model of two tokens that gives token 0 these log-probabilities."""
    logits = torch.stack([tokens, torch.log(-torch.expm1(tokens))], -1)
    logits = torch.cat([logits, torch.zeros_like(logits[:, :1])], 1)
    return lambda **_: SimpleNamespace(logits=logits)


def sums(tokens, mask):
    return (tokens * mask[:, 1:]).sum(1)


def inputs_of(mask):
    ids = torch.zeros_like(mask)
    return dict(input_ids=ids, attention_mask=torch.ones_like(ids), completion_mask=mask)


KINDS = {
    "sigmoid": "sigmoid", "sigmoidNorm": "sigmoid_norm", "hinge": "hinge", "ipo": "ipo", "robust": "robust", "cdpo": "aot",
    "bco": "bco_pair", "sppo": "sppo_hard", "nca": "nca_pair", "apoZero": "apo_zero", "apoDown": "apo_down", "exo": "exo_pair",
    "discopop": "discopop",
}


def dpo():
    file = File("dpo.json")
    chosen_lengths, rejected_lengths = [3, 6, 1, 4, 5], [4, 2, 2, 6, 1]
    pairs = len(chosen_lengths)
    tokens, mask = answers(chosen_lengths + rejected_lengths)
    both = sums(tokens, mask).detach()
    reference = both + normal(2 * pairs, scale=2.5)
    common = dict(chosenLogProbs=both[:pairs], rejectedLogProbs=both[pairs:], chosenLengths=chosen_lengths, rejectedLengths=rejected_lengths)
    referenced = dict(**common, chosenReferenceLogProbs=reference[:pairs], rejectedReferenceLogProbs=reference[pairs:])

    def trl(kind, beta, smoothing, which):
        """TRL's loss of these pairs, the gradient by the first token (all of an answer's tokens have the same), metrics."""
        rows = which + [pairs + i for i in which]
        part, part_mask = leaf(tokens[rows]), mask[rows]
        trainer = stub(ld_alpha=None, precompute_ref_logps=True, f_divergence_type="reverse_kl", loss_types=[KINDS[kind]], loss_weights=[1.0],
                       use_weighting=False, beta=beta, label_smoothing=smoothing, args=SimpleNamespace(discopop_tau=0.05))
        given = dict(**inputs_of(part_mask), ref_chosen_logps=reference[which], ref_rejected_logps=reference[[pairs + i for i in which]])
        loss = DPOTrainer._compute_loss(trainer, model_of(part), given, False)
        slopes = gradient(loss, part)[:, 0]
        metrics = {key: value[0] for key, value in trainer._metrics["eval"].items() if key.startswith("rewards/")}
        return loss, slopes[: len(which)], slopes[len(which) :], metrics

    for kind in KINDS:
        for beta in (0.1, 0.5):
            smoothing = {"robust": 0.2, "cdpo": 0.15, "exo": 0.1}.get(kind, 0.0)
            losses = torch.stack([trl(kind, beta, smoothing, [i])[0].detach() for i in range(pairs)])
            loss, chosen, rejected, metrics = trl(kind, beta, smoothing, list(range(pairs)))
            if kind == "cdpo":
                # 'aot' sorts within a batch, so that only one pair at a time is cDPO.
                alone = [trl(kind, beta, smoothing, [i]) for i in range(pairs)]
                loss, chosen, rejected = losses.mean(), *(torch.cat([one[side] for one in alone]) / pairs for side in (1, 2))
            assert abs(losses.mean() - loss) < 1e-12
            file.add(f"{kind} beta {beta}", "dpoLoss", dict(**referenced, kind=kind, beta=beta, labelSmoothing=smoothing), dict(
                loss=loss, losses=losses, chosenReward=metrics["rewards/chosen"], rejectedReward=metrics["rewards/rejected"],
                accuracy=metrics["rewards/accuracies"], margin=metrics["rewards/margins"], gradient=dict(chosen=chosen, rejected=rejected)))

    def without_reference(name, options, compute):
        c, r = leaf(both[:pairs]), leaf(both[pairs:])
        losses, chosen, rejected = compute(c / torch.tensor(chosen_lengths), r / torch.tensor(rejected_lengths))
        dc, dr = gradient(losses.mean(), c, r)
        file.add(name, "dpoLoss", {**common, **options}, dict(
            loss=losses.mean(), losses=losses, chosenReward=chosen.mean(), rejectedReward=rejected.mean(),
            accuracy=(chosen > rejected).double().mean(), margin=(chosen - rejected).mean(), gradient=dict(chosen=dc, rejected=dr)))

    for beta, gamma in ((2.0, 1.0), (0.7, 0.3)):
        trainer = stub(alpha=0.0, loss_type="simpo", simpo_gamma=gamma, beta=beta, label_smoothing=0.0)
        without_reference(f"simpo beta {beta} gamma {gamma}", dict(kind="simpo", beta=beta, gamma=gamma),
                          lambda c, r: CPOTrainer.cpo_loss(trainer, c, r))

    def orpo(c, r):
        # The caller of odds_ratio_loss adds the cross-entropy.
        ratio, chosen, rejected = ORPOTrainer.odds_ratio_loss(stub(beta=beta), c, r)[:3]
        return -c - ratio, chosen, rejected

    for beta in (0.1, 0.6):
        without_reference(f"orpo beta {beta}", dict(kind="orpo", beta=beta), orpo)
    file.write()


def kto():
    file = File("kto.json")
    desirable = [True, False, True, True, False, False]
    n = len(desirable)
    tokens, mask = answers([3, 5, 2, 4, 1, 6])
    log_probs = sums(tokens, mask).detach()
    reference = log_probs + normal(n, scale=2.5)
    for beta, z, wanted, unwanted in ((0.1, 0.0, 1.0, 1.0), (0.3, 0.8, 1.33, 0.7)):

        def trl(rows):
            part = leaf(tokens[rows])
            trainer = stub(precompute_ref_logps=True, calculate_KL=True, loss_type="kto", beta=beta, desirable_weight=wanted,
                           undesirable_weight=unwanted, _compute_kl_logps=lambda *_: torch.full((len(rows),), z))
            given = dict(**inputs_of(mask[rows]), label=torch.tensor([desirable[i] for i in rows]), ref_logps=reference[rows],
                         ref_KL_logps=torch.zeros(len(rows)))
            loss = KTOTrainer._compute_loss(trainer, model_of(part), given, False)
            return loss, gradient(loss, part)[:, 0]

        loss, slopes = trl(list(range(n)))
        file.add(f"beta {beta} kl {z} weights {wanted} {unwanted}", "ktoLoss", dict(
            logProbs=log_probs, referenceLogProbs=reference, desirable=desirable, kl=z, beta=beta, desirableWeight=wanted, undesirableWeight=unwanted),
            dict(loss=loss, losses=torch.stack([trl([i])[0].detach() for i in range(n)]), gradient=slopes))
    file.write()


def reward():
    file = File("reward.json")
    pairs = 6
    scores = normal(2 * pairs, scale=1.5)
    margins = 2 * torch.rand(pairs, generator=draw)
    weights = torch.rand(pairs, generator=draw)

    def case(name, center, with_margins):
        given = leaf(scores)
        trainer = stub(args=SimpleNamespace(center_rewards_coefficient=center or None))
        inputs = dict(attention_mask=torch.ones(1))
        if with_margins:
            inputs["margin"] = margins
        loss = RewardTrainer.compute_loss(trainer, lambda **_: SimpleNamespace(logits=given.unsqueeze(-1)), inputs)
        slopes = gradient(loss, given)
        metrics = {key: value[0] for key, value in trainer._metrics["eval"].items() if key in ("accuracy", "margin")}
        file.add(name, "pairwiseRewardLoss", dict(chosen=scores[:pairs], rejected=scores[pairs:], center=center,
                                                  **({"margins": margins} if with_margins else {})),
                 dict(loss=loss, **metrics, gradient=dict(chosen=slopes[:pairs], rejected=slopes[pairs:])))

    case("plain", 0.0, False)
    case("margins", 0.0, True)
    case("center 0.01", 0.01, False)
    case("margins and center 0.3", 0.3, True)

    chosen, rejected = leaf(scores[:pairs]), leaf(scores[pairs:])
    of_pair = -F.logsigmoid(chosen - rejected - margins) + 0.05 * (chosen + rejected) ** 2
    weighted = lambda x: (weights * x).sum() / weights.sum()
    dc, dr = gradient(weighted(of_pair), chosen, rejected)
    file.add("weights, margins and center 0.05", "pairwiseRewardLoss",
             dict(chosen=chosen, rejected=rejected, center=0.05, margins=margins, weights=weights),
             dict(loss=weighted(of_pair), accuracy=weighted((chosen > rejected).double()), margin=weighted(chosen - rejected),
                  gradient=dict(chosen=dc, rejected=dr)))
    file.write()


def grpo():
    file = File("grpo.json")
    lengths, longest = [4, 1, 6, 3], 8
    width = max(lengths)
    mask = torch.tensor([[1] * length + [0] * (width - length) for length in lengths])
    offsets = [sum(lengths[:i]) for i in range(len(lengths) + 1)]
    log_probs = leaf(log_prob(len(lengths), width))
    old, reference = log_probs.detach() + normal(*mask.shape, scale=0.4), log_probs.detach() + normal(*mask.shape, scale=0.6)
    advantages = normal(len(lengths)).unsqueeze(1) * torch.ones(mask.shape)
    flat = lambda x: x[mask.bool()]
    names = dict(dapo="dapo", grpo="grpo", bnpo="bnpo", drGrpo="dr_grpo")
    for reduction, loss_type in names.items():
        for beta, low, high in ((0.0, 0.2, 0.2), (0.04, 0.2, 0.28), (0.5, 0.1, 0.3)):
            trainer = stub(top_entropy_quantile=1.0, off_policy_mask_threshold=None, importance_sampling_level="token", beta=beta,
                           args=SimpleNamespace(use_bias_correction_kl=True, delta=None), epsilon_low=low, epsilon_high=high, use_vllm=False,
                           loss_type=loss_type, max_completion_length=longest, _entropy_bonus_enabled=False,
                           _get_per_token_logps_and_entropies=lambda *_, **__: (log_probs, torch.zeros(mask.shape), None))
            ids = torch.zeros_like(mask)
            given = dict(prompt_ids=ids[:, :1], prompt_mask=mask[:, :1], completion_ids=ids, completion_mask=mask, advantages=advantages,
                         old_per_token_logps=old, ref_per_token_logps=reference, num_items_in_batch=mask.sum())
            loss = GRPOTrainer._compute_loss(trainer, None, given)
            metrics = trainer._metrics["eval"]
            options = dict(logProbs=flat(log_probs), oldLogProbs=flat(old), advantages=flat(advantages), offsets=offsets,
                           reduction=reduction, beta=beta, clipLow=low, clipHigh=high)
            if beta > 0:
                options["referenceLogProbs"] = flat(reference)
            if reduction == "drGrpo":
                options["maxLength"] = longest
            fraction = metrics["clip_ratio/region_mean"][0]
            assert fraction > 0
            file.add(f"{reduction} beta {beta} clip {low} {high}", "grpoLoss", options, dict(
                loss=loss, kl=metrics["kl"][0] if beta > 0 else 0, clipFraction=fraction, gradient=flat(gradient(loss, log_probs))))
    file.write()


if __name__ == "__main__":
    ROOT.mkdir(parents=True, exist_ok=True)
    for make in (ppo, kl, advantages, dpo, kto, reward, grpo):
        make()
