"""Planning time for one Push-T plan, LeWorldModel against DINO-WM, both ours: CPU seconds, and FLOPs of each beside.

Both: one world, CEM of 300 samples × 30 rounds, 30 elites, horizon 5, action 10 (2-d × frame skip 5), the papers' sizes
(LeWorldModel at 224 px with one latent of 192 numbers; DINO-WM over 196 tokens of ViT-S/14 at 196 px), random weights,
one thread. Start and goal are encoded once, before; that is timed apart.

    python bench/plan_latency.py

A DINO-WM round takes minutes on a core. Its candidates are independent rows, so rounds of few samples are timed, two
counts of them (`--few`), and the line through both is followed to 300; LeWorldModel's rounds are timed in full.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from innerworld.agent.cost.cost import goal_cost
from innerworld.models import JEPA, MODELS, DinoWM
from innerworld.models.dino_wm import DinoWMConfig
from innerworld.nn.vision import sized
from innerworld.plan import CEM, Cost, cold, generators
from innerworld.types import Spec, State
from innerworld.world import WorldModel

SAMPLES, ROUNDS, HORIZON, ACTION = 300, 30, 5, 10
PUBLISHED = 48  # LeWorldModel (arXiv 2603.19312), Fig. 3: 0.98 s against 47 s on an L40S
SPEC = Spec({"pixels": (224, 224, 3)}, ACTION)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--few", type=int, nargs=2, default=(2, 6), help="samples of the two DINO-WM rounds")
    parser.add_argument("--repeats", type=int, default=3, help="rounds timed of each kind; their median is taken")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    found = {}
    for name, build, counts in (("LeWorldModel", lewm, (100, SAMPLES)), ("DINO-WM", dino_wm, tuple(args.few))):
        model = build().eval().requires_grad_(False)
        looked = _seconds(lambda model=model: model.encode(_look(0)), args.repeats)
        cost = goal_cost(model, model.encode(_look(0)), model.encode(_look(1)), "last")
        took = {n: _round(cost, n, args.repeats) for n in counts}
        (few, many), (less, more) = counts, [took[n] for n in counts]
        each = (more - less) / (many - few)
        whole = took.get(SAMPLES, less + each * (SAMPLES - few))
        flops = _flops(model) * SAMPLES
        found[name] = whole, flops
        print(f"{name}: {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, a look {looked:.2f} s")
        print(f"  rounds: {', '.join(f'{n} samples {seconds:.2f} s' for n, seconds in took.items())}")
        work = flops / SAMPLES / 1e9
        print(f"  a candidate {each * 1000:.1f} ms, {work:.2f} GFLOP, {work / each:.0f} GFLOP/s")
        how = "" if SAMPLES in took else ", extrapolated"
        print(
            f"  a plan of {SAMPLES} × {ROUNDS}: {whole * ROUNDS:.0f} s{how}, {flops * ROUNDS / 1e12:.1f} TFLOP",
            flush=True,
        )
    (fast, little), (slow, much) = found["LeWorldModel"], found["DINO-WM"]
    print(f"ratio {slow / fast:.0f} × in time, {much / little:.0f} × in FLOPs; published {PUBLISHED} ×")
    print(f"DINO-WM without a shared past, one frame at a time anew: {_anew():.2f} × as long")


def lewm() -> WorldModel:
    return MODELS["jepa"](JEPA.presets["lewm"], SPEC)


def dino_wm() -> DinoWM:
    """The preset, with eyes of DINOv2's size instead of its weights, which make no difference to the clock."""
    config = DinoWM.presets["dino_wm"].model_dump()
    vit = sized("small", patch=14, positions="table", table=(37, 37), class_token=True, layer_scale=1.0, eps=1e-6)
    config["eyes"] |= {"checkpoint": None, "vit": vit.model_dump(), "pixels": "imagenet"}
    return DinoWM(DinoWMConfig.model_validate(config), SPEC)


def _look(seed: int) -> State:
    rng = torch.Generator().manual_seed(seed)
    return {"pixels": torch.randint(256, (1, 224, 224, 3), dtype=torch.uint8, generator=rng)}


def _round(cost: Cost, samples: int, repeats: int) -> float:
    """CPU seconds of a round of the search."""
    planner = CEM.model_validate(CEM.presets["lewm"].model_dump() | {"samples": samples, "elites": 2, "rounds": 1})
    start = cold(1, HORIZON, ACTION)
    return _seconds(lambda: planner(cost, start, generators(0, 1)), repeats)


def _seconds(work: Callable[[], object], repeats: int) -> float:
    work()
    took = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        took.append(time.process_time() - began)
    return median(took)


@torch.no_grad()
def _flops(model: WorldModel) -> float:
    """Of imagining one candidate; two FLOPs for a multiplication and an addition."""
    state = model.encode(_look(0))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # the fused kernel is not counted
        model.imagine(state, torch.zeros(1, 1, HORIZON, ACTION))
    return counter.get_total_flops()


@torch.no_grad()
def _anew() -> float:
    model = dino_wm().eval()
    state, actions = model.encode(_look(0)), torch.zeros(1, 2, HORIZON, ACTION)
    slow = _seconds(lambda: WorldModel.imagine(model, state, actions), 1)
    return slow / _seconds(lambda: model.imagine(state, actions), 1)


if __name__ == "__main__":
    main()
