"""One DreamerV3 update at size 1M, innerworld beside sheeprl: CPU and wall seconds on one thread.

Both sides: 16 sequences of 64 steps after one step of replayed context, imagination of 15 steps from each of the 1024
beliefs, world model, actor and critic learnt at once by LaProp with clipping by tensor; float32, nothing compiled. Once
with CartPole's vectors (4 numbers, 2 actions), once with 64 × 64 pictures.

    python bench/dreamer_update.py --peer-python PEER/bin/python

An update is the loss, its gradient and the optimiser's step; on our side also what the training loop does between two
steps, but neither side draws from its replay or acts. The peer learns from what it acted out itself, ours from random
numbers of the same shapes with an episode of about 20 steps after the other, as CartPole begins. The sides take turns,
`--repeats` times each, in a process of their own; of a process the median over `--updates` counts, after 3 that do not,
and of all processes the least. `--preset` measures another of our presets against the same work of the peer.

The peer runs in its own virtual environment (`torch==2.13.0`, then `sheeprl==0.8.4`). Without `--peer-python` only our
side runs.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BATCH, LENGTH, ACTIONS = 16, 64, 2
SENSORS: dict[str, tuple[int, ...]] = {"vector": (4,), "pixels": (64, 64, 3)}
EPISODE = 20  # steps of a CartPole episode under a policy that knows nothing
WARM = 3  # updates that are not counted: what is loaded and allocated at first
PEER = "sheeprl.algos.dreamer_v3_5.dreamer_v3_5"
PEER_WORDS = [
    "exp=dreamer_v3_5",
    "algo=dreamer_v3_5_1M",
    f"algo.per_rank_batch_size={BATCH}",
    f"algo.per_rank_sequence_length={LENGTH}",
    "algo.learning_starts=80",  # a sequence and its context are there
    "algo.replay_ratio=1",
    "algo.run_test=False",
    "env.num_envs=1",
    "env.sync_env=True",
    "env.capture_video=False",
    "buffer.size=2000",
    "buffer.checkpoint=False",
    "buffer.memmap=False",
    "checkpoint.every=0",
    "checkpoint.save_last=False",
    "metric.log_level=0",
    "fabric.accelerator=cpu",
    "fabric.devices=1",
    "num_threads=1",
    "model_manager.disabled=True",
]
PEER_SENSES = {
    "vector": ["env=gym", "env.id=CartPole-v1", "algo.mlp_keys.encoder=[vector]", "algo.cnn_keys.encoder=[]"],
    "pixels": ["env=dummy", "env.id=discrete_dummy", "algo.mlp_keys.encoder=[]", "algo.cnn_keys.encoder=[rgb]"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", type=Path, help="interpreter of the peer's virtual environment")
    parser.add_argument("--work", nargs="+", choices=list(SENSORS), default=list(SENSORS), help="what is seen")
    parser.add_argument("--family", default="dreamer", help="of our side")
    parser.add_argument("--preset", default="v3", help="of our side")
    parser.add_argument("--updates", type=int, default=7, help="updates timed in each process")
    parser.add_argument("--repeats", type=int, default=2, help="processes of each side")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        print(json.dumps(SIDES[args.side](args.work[0], args)))
        return
    pythons = {"innerworld": Path(sys.executable)}
    if args.peer_python:
        pythons["sheeprl"] = args.peer_python.absolute()
    for work in args.work:
        print(work, flush=True)
        runs: dict[str, list[dict[str, Any]]] = {side: [] for side in pythons}
        for _ in range(args.repeats):
            for side, python in pythons.items():
                runs[side].append(_in_own_process(python, side, work, args))
                print(f"  {side:12} {_line(runs[side][-1])}", flush=True)
        best = {side: min(found, key=lambda run: run["cpu_s"]) for side, found in runs.items()}
        if args.peer_python:
            cpu, wall = (best["sheeprl"][what] / best["innerworld"][what] for what in ("cpu_s", "wall_s"))
            print(f"  least of {args.repeats}: {cpu:.2f} × fewer CPU seconds, {wall:.2f} × less time", flush=True)


def innerworld_side(work: str, args: argparse.Namespace) -> dict[str, Any]:
    """The training loop on one clip, as online training cuts it: what was believed before it is known."""
    import torch

    from innerworld import families
    from innerworld.training import TrainConfig, train
    from innerworld.types import Clip, Spec

    spec = Spec({work: SENSORS[work]}, action=ACTIONS, discrete=True)
    torch.manual_seed(0)
    model = families.build(args.family, families.config(args.family, args.preset), spec)
    clip = _clip(model, work)
    clock = Clock()

    class Same:
        def batch(self, step: int) -> Clip:
            clock.tick()
            return clip

    config = TrainConfig(
        steps=WARM + args.updates + 1,  # the last one ends with the training
        optimiser="laprop",
        lr=4e-5,
        warmup=1000,
        agc=0.3,
        clip_grad=0.0,
        log_every=10**9,
        device="cpu",
        threads=1,
    )
    train(model, Same(), config)
    size = sum(p.numel() for p in model.parameters() if p.requires_grad)  # the peer's slow critic is not counted either
    return clock.told(f"{args.family} {args.preset}, {size:,} parameters")


def _clip(model: Any, sensor: str) -> Any:
    """Random numbers; where an episode begins, no action led there."""
    import torch

    from innerworld.types import Clip

    rng = torch.Generator().manual_seed(0)
    seen = (BATCH, LENGTH + 1, *SENSORS[sensor])
    pixels = len(seen) == 5
    obs = torch.randint(256, seen, dtype=torch.uint8, generator=rng) if pixels else torch.randn(seen, generator=rng)
    action = torch.eye(ACTIONS)[torch.randint(ACTIONS, (BATCH, LENGTH), generator=rng)]
    first = torch.rand(BATCH, LENGTH + 1, generator=rng) < 1 / EPISODE
    terminated = torch.cat([first[:, 2:], torch.zeros(BATCH, 1, dtype=torch.bool)], dim=1)  # just before the next
    with torch.no_grad():
        past = model.packed(model.encode({sensor: obs[:, 0]}))
    return Clip({sensor: obs}, action, torch.ones(BATCH, LENGTH), terminated, first, past)


def peer_side(work: str, args: argparse.Namespace) -> dict[str, Any]:
    """sheeprl's own training, in which every call of its gradient step is timed."""
    updates = WARM + args.updates
    senses = [word.replace("encoder", part) for word in PEER_SENSES[work] for part in ("encoder", "decoder")]
    words = [*PEER_WORDS, *dict.fromkeys(senses), f"algo.total_steps={79 + updates}"]
    sys.argv = ["sheeprl", *words]
    import torch

    torch.set_num_threads(1)
    module, cli = importlib.import_module(PEER), importlib.import_module("sheeprl.cli")
    step: Callable[..., Any] = module.train
    clock, sizes = Clock(), list[int]()

    def timed(fabric: Any, cfg: Any, world: Any, actor: Any, critic: Any, *rest: Any, **named: Any) -> Any:
        sizes[:] = [sum(p.numel() for p in part.parameters()) for part in (world, actor, critic)]
        clock.tick()
        found = step(fabric, cfg, world, actor, critic, *rest, **named)
        clock.tock()
        return found

    module.train = timed  # type: ignore[attr-defined]
    cli.run()
    return clock.told(f"{PEER.rpartition('.')[2]} 1M, {sum(sizes):,} parameters")


SIDES: dict[str, Callable[[str, argparse.Namespace], dict[str, Any]]] = {
    "innerworld": innerworld_side,
    "sheeprl": peer_side,
}


class Clock:
    """CPU and wall seconds between a tick and the tock, or the next tick, that follows."""

    def __init__(self) -> None:
        self.began: tuple[float, float] | None = None
        self.found: list[tuple[float, float]] = []

    def tick(self) -> None:
        if self.began is not None:
            self.tock()
        self.began = time.process_time(), time.perf_counter()

    def tock(self) -> None:
        assert self.began is not None
        self.found.append((time.process_time() - self.began[0], time.perf_counter() - self.began[1]))
        self.began = None

    def told(self, setting: str) -> dict[str, Any]:
        cpu, wall = zip(*self.found[WARM:], strict=True)
        medians = {"cpu_s": statistics.median(cpu), "wall_s": statistics.median(wall)}
        return {**medians, "updates": len(cpu), "setting": setting}


def _in_own_process(python: Path, side: str, work: str, args: argparse.Namespace) -> dict[str, Any]:
    """In an empty folder, for the peer leaves its logs where it runs."""
    words = ["--side", side, "--work", work, "--family", args.family, "--preset", args.preset]
    command = [str(python), str(Path(__file__).resolve()), *words, "--updates", str(args.updates)]
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _line(run: dict[str, Any]) -> str:
    spent = f"{run['cpu_s']:6.2f} s CPU {run['wall_s']:6.2f} s wall"
    return f"{spent}   (median of {run['updates']}; {run['setting']})"


if __name__ == "__main__":
    main()
