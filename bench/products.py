"""What multiplying matrices by oneDNN is worth (`nn/linear.py`): the same work with it and with torch's own product.

    python bench/products.py
    python bench/products.py --only products dreamer --repeats 20

`products` are single layers, forward without a graph and forward and backward with one. The rest are whole updates
(loss, gradient, AdamW) of families at their small presets, and imagining without gradients many futures of one belief,
as a search does. Random weights and clips: they make no difference to the clock. One thread, CPU ms: ours, torch's, and
their ratio; the sides take turns, of each the least of `--repeats` counts.

Where oneDNN is not taken (no AMD, no AVX-512) both sides are torch's own, and it says so.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator

import torch

from innerworld import families
from innerworld.nn import linear
from innerworld.testing.world_model import random_clip
from innerworld.training.heap import keep_freed_memory
from innerworld.types import Spec, random_actions
from innerworld.world import WorldModel

LAYERS = ((1024, 64, 64), (1024, 640, 64), (1024, 128, 512), (1024, 512, 512), (300, 192, 3072), (4096, 64, 256))
PIXELS = Spec({"pixels": (32, 32, 3)}, action=3, discrete=True)
VECTOR = Spec({"state": (4,)}, action=2, discrete=True)
UPDATES = {  # family, preset, of what, clips, actions of a clip
    "dreamer from vectors": ("dreamer", "v3", VECTOR, 16, 64),
    "dreamer from pictures": ("dreamer", "cpu", PIXELS, 16, 16),
    "sequence": ("sequence", "small", PIXELS, 16, 16),
    "sequence from vectors": ("sequence", "small", VECTOR, 16, 32),
    "rssm": ("rssm", "1m", PIXELS, 16, 16),
    "jepa": ("jepa", "small", PIXELS, 32, 12),
    "glp": ("glp", "small", PIXELS, 32, 12),
    "video": ("video", "small", PIXELS, 16, 8),
    "genie": ("genie", "small", PIXELS, 16, 8),
}
FUTURES = {  # family, preset, of what, futures, horizon
    "jepa": ("jepa", "small", PIXELS, 256, 16),
    "jepa lewm": ("jepa", "lewm", Spec({"pixels": (64, 64, 3)}, action=10), 300, 5),
    "rssm": ("rssm", "1m", PIXELS, 256, 16),
    "sequence": ("sequence", "small", PIXELS, 256, 16),
    "video": ("video", "small", PIXELS, 32, 4),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], help="rows that begin so")
    parser.add_argument("--repeats", type=int, default=10)
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    if not linear._foreign():
        print("oneDNN is not taken on this machine: both sides are torch's own")
    for name, work in rows():
        if not args.only or any(name.startswith(word) for word in args.only):
            ours, torchs = measured(work(), args.repeats)
            print(f"{name:48} {1e3 * ours:9.2f} {1e3 * torchs:9.2f} {torchs / ours:6.2f}", flush=True)


def rows() -> Iterator[tuple[str, Callable[[], Callable[[], object]]]]:
    """What is measured: its name, and what makes it ready to be done again and again."""
    for n, i, o in LAYERS:
        yield f"products {n} x {i} by {o}, forward", lambda n=n, i=i, o=o: layer(n, i, o, False)
        yield f"products {n} x {i} by {o}, and backward", lambda n=n, i=i, o=o: layer(n, i, o, True)
    for name, row in UPDATES.items():
        yield f"{name}, an update of {row[3]} x {row[4]}", lambda row=row: update(*row)
    for name, row in FUTURES.items():
        yield f"{name}, {row[3]} futures of {row[4]}", lambda row=row: futures(*row)


def layer(n: int, i: int, o: int, backward: bool) -> Callable[[], object]:
    part = linear.Linear(i, o)
    x, up = torch.randn(n, i, requires_grad=backward), torch.randn(n, o)

    @torch.set_grad_enabled(backward)
    def once() -> None:
        y = part(x)
        if backward:
            torch.autograd.grad(y, [x, *part.parameters()], up)

    return once


def update(family: str, preset: str, spec: Spec, b: int, t: int) -> Callable[[], object]:
    torch.manual_seed(0)
    model = families.build(family, families.config(family, preset), spec).train()
    assert isinstance(model, WorldModel)
    clip = random_clip(spec, b, t)
    model.prepare(clip)
    optimiser = torch.optim.AdamW(model.parameters(), 1e-4)

    def once() -> None:
        optimiser.zero_grad()
        model.loss(clip)[0].backward()
        optimiser.step()

    return once


def futures(family: str, preset: str, spec: Spec, n: int, horizon: int) -> Callable[[], object]:
    torch.manual_seed(0)
    model = families.build(family, families.config(family, preset), spec).eval()
    assert isinstance(model, WorldModel)
    clip = random_clip(spec, 1, 2)
    model.prepare(clip)
    state = model.encode(clip.at(0))
    actions = random_actions(spec, (1, n, horizon), torch.Generator().manual_seed(0))

    @torch.no_grad()
    def once() -> object:
        return model.imagine(state, actions)

    return once


def measured(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """CPU seconds with oneDNN and with torch's own."""
    own = linear._foreign
    least = [float("inf"), float("inf")]
    for repeat in range(repeats + 2):
        for side, taken in enumerate((own, lambda: False)):
            linear._foreign = taken
            began = time.process_time()
            work()
            if repeat >= 2:  # the first ones load and allocate
                least[side] = min(least[side], time.process_time() - began)
    linear._foreign = own
    return least[0], least[1]


if __name__ == "__main__":
    main()
