"""How long does V-JEPA 2-AC think about one action? The paper's search over ViT-g tokens.

800 samples × 10 rounds, horizon 1. One picture of 256 tokens of 1408 numbers and a goal, both at hand already; the
published predictor (305.2 M parameters) with random weights, the limits of the paper's robot. The paper gives 16 s on
an RTX 4090.

    python bench/ac_plan_step.py --device cuda
    python bench/ac_plan_step.py --samples 2 --rounds 1

Without a GPU it takes hours: time a few samples, of which the operations are counted, too.
"""

from __future__ import annotations

import argparse
import time
from contextlib import nullcontext

import torch
from torch.utils.flop_counter import FlopCounterMode

from innerworld.agent.cost.cost import goal_cost
from innerworld.models import VJEPA2AC
from innerworld.models.vjepa2_ac import VJEPA2ACConfig
from innerworld.nn.vision import sized
from innerworld.plan import CEM, Cost, Limits, cold, generators
from innerworld.types import Spec, State

SAMPLES, ROUNDS, ELITES = 800, 10, 10
PUBLISHED = 16.0  # seconds, arXiv 2506.09985, §4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--repeats", type=int, default=3, help="plans that are timed, after one that is not")
    parser.add_argument("--at-once", type=int, default=100, help="candidates that are imagined together")
    args = parser.parse_args()
    model = _model().to(args.device)
    state, goal = (_seen(model, seed) for seed in (0, 1))
    cost = _parts(goal_cost(model, state, goal, "last"), args.at_once)
    search = CEM(
        horizon=1, samples=args.samples, rounds=args.rounds, elites=min(ELITES, args.samples), momentum=0.15,
        min_std=0.0, answer="mean",
    )  # fmt: skip
    constrain = Limits.presets["vjepa2_ac"].constraint()
    precision = torch.autocast(args.device, torch.bfloat16) if args.device != "cpu" else nullcontext()
    seconds = []
    with torch.no_grad(), precision:
        with FlopCounterMode(display=False) as counter:
            cost(torch.zeros(1, 1, 1, 7, device=args.device))
        for _ in range(args.repeats + 1 if args.device != "cpu" else 1):
            began = _now(args.device)
            search(cost, cold(1, 1, 7, device=args.device), generators(0, 1, args.device), constrain=constrain)
            seconds.append(_now(args.device) - began)
    each = counter.get_total_flops()
    whole = each * SAMPLES * ROUNDS
    took = min(seconds[1:] or seconds)
    print(f"one candidate: {each / 1e9:.0f} GFLOP; {SAMPLES} × {ROUNDS}: {whole / 1e15:.2f} PFLOP")
    print(f"{args.samples} × {args.rounds} on {args.device}: {took:.2f} s (published: {PUBLISHED} s on an RTX 4090)")


def _model() -> VJEPA2AC:
    """Eyes of one block: they do not look, only the size of their tokens counts."""
    eyes = {"vit": sized("giant22", tubelet=2, pairing="vjepa2", depth=1).model_dump(), "size": 256}
    config = VJEPA2ACConfig.model_validate(VJEPA2AC.presets["vitg16"].model_dump() | {"eyes": eyes})
    torch.manual_seed(0)
    return VJEPA2AC(config, Spec({"pixels": (256, 256, 3), "pose": (7,)}, 7)).eval()


def _seen(model: VJEPA2AC, seed: int) -> State:
    """A belief about a picture that nobody looked at: 256 random tokens, normed."""
    like = model.predictor.norm.weight.detach()
    z = torch.randn(1, 256, 1408, generator=torch.Generator().manual_seed(seed)).to(like.device)
    keys, values = model.predictor.blank(1, like)
    time = torch.zeros(1, dtype=torch.long, device=like.device)
    pose, extrinsics = like.new_zeros(1, 7), like.new_zeros(1, 0)
    return {"z": z, "pose": pose, "extrinsics": extrinsics, "keys": keys, "values": values, "time": time}


def _parts(cost: Cost, at_once: int) -> Cost:
    return lambda actions: torch.cat([cost(part) for part in actions.split(at_once, dim=1)], dim=1)


def _now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    main()
