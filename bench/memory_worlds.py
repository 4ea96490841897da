"""How much of what was shown long ago does a world model still know? Taught and asked in `recall` or `revisit`.

    python bench/memory_worlds.py --world recall --delay 10 30 100 --family rssm --preset small --seeds 0 1 2
    python bench/memory_worlds.py --world revisit --steps 200 --family rssm --preset small
    python bench/memory_worlds.py --family sequence --preset small-mamba2 --sensor symbols --delay 100 1000

For each seed, and in `recall` for each delay, episodes are collected into a temporary folder (any doors in `recall`,
the walker's ways in `revisit`), the family is taught from whole episodes by the library's training loop, and other
episodes ask it. Rows of the table say who was asked:

    doors      imagination, one step: it has watched until the doors are seen (recall)
    corridor   imagination, from the last cue on, through all of the corridor with eyes shut (recall)
    probe      a linear probe of what it believes at the doors (recall)
    rooms      imagination from the middle of the episode on, while the walker returns to where it was (revisit)

`lag` is how many steps before the answer was seen last; `never`: it was not. The floor is guessing, the ceiling who
forgets nothing. `error` is the mean squared error of what was decoded there, beside that of decoding the mean of all
answers. Everything is a function of the seed, but for rounding on other machines.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from innerworld import families
from innerworld.data import Clips, Store, Uniform, collect
from innerworld.envs import spec_of
from innerworld.envs.lawful import Lawful
from innerworld.envs.questions import NEVER
from innerworld.envs.recall import RecallConfig, RecallVector
from innerworld.envs.revisit import RevisitConfig, RevisitVector
from innerworld.envs.walker import Walker
from innerworld.evaluate.recall import Recalled, generated, probed
from innerworld.training import TrainConfig, train
from innerworld.types import Clip
from innerworld.world import WorldModel

WORLDS = 16  # stepped together
HEAD = f"{'asked':10} {'delay':>5} {'seed':>4} {'lag':>11} {'n':>6} {'accuracy':>22} {'floor':>6} {'ceiling':>7}  error"


def main() -> None:
    args = _arguments()
    torch.set_num_threads(args.threads)
    print(HEAD, flush=True)
    rows = []
    for delay in args.delay if args.world == "recall" else [0]:
        for seed in args.seeds:
            with tempfile.TemporaryDirectory() as folder:
                rows += once(args, delay, seed, Path(folder))
    if args.out:
        words = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
        args.out.write_text(json.dumps({"settings": words, "rows": rows}, indent=2), encoding="utf-8")


def once(args: argparse.Namespace, delay: int, seed: int, folder: Path) -> list[dict[str, Any]]:
    """Collect, teach and ask; the rows that were printed."""
    worlds = _worlds(args, delay)
    learn = _gather(args, worlds, folder / "learn", args.episodes, 2 * seed)
    asked = _gather(args, worlds, folder / "asked", args.asked, 2 * seed + 1)
    began = time.process_time()
    model = _teach(args, learn, seed)
    size = sum(p.numel() for p in model.parameters())
    cpu_s = time.process_time() - began
    clip = _whole(args, asked, ["state", args.sensor])
    rows = []
    for who, found in _ask(args, worlds, model, clip).items():
        for each in found():
            rows.append({"asked": who, "delay": delay, "seed": seed, "parameters": size, "train_cpu_s": cpu_s})
            rows[-1] |= asdict(each)
            print(_line(who, delay, seed, each), flush=True)
    print(f"  {size:,} parameters, taught in {cpu_s:.0f} CPU s", flush=True)
    return rows


def _worlds(args: argparse.Namespace, delay: int) -> RecallVector | RevisitVector:
    if args.world == "recall":
        return RecallVector(WORLDS, RecallConfig(delay=delay, pairs=args.pairs, cues=args.cues, size=args.size))
    return RevisitVector(WORLDS, RevisitConfig(cells=args.cells, steps=args.steps, colors=args.cues, size=args.size))


def _gather(args: argparse.Namespace, worlds: Lawful, folder: Path, episodes: int, seed: int) -> Store:
    spec = spec_of(worlds.single_observation_space, worlds.single_action_space)
    policy = Walker(worlds, _middle(args), args.lag) if isinstance(worlds, RevisitVector) else Uniform(spec)
    store = Store.create(folder, spec)
    collect(worlds, policy, episodes, store, seed)
    return store


def _teach(args: argparse.Namespace, store: Store, seed: int) -> WorldModel:
    config = families.config(args.family, args.preset, args.set)
    length = min(args.length or int(store.lengths.min()), int(store.lengths.min()))
    clips = Clips(store, None, length, args.batch, seed, sensors=[args.sensor])
    torch.manual_seed(seed)
    model = families.build(args.family, config, clips.spec)
    if not isinstance(model, WorldModel):
        raise SystemExit(f"{args.family} is no world model")
    how = TrainConfig(
        steps=args.updates, lr=args.lr, warmup=min(100, args.updates // 10), seed=seed, device=args.device
    )
    return train(model, clips, how, log=_told if args.verbose else lambda step, row: None)


def _told(step: int, row: Any) -> None:
    print(f"  {step:6} " + " ".join(f"{name} {value:.3g}" for name, value in row.items()), flush=True)


def _ask(
    args: argparse.Namespace, worlds: Lawful, model: WorldModel, clip: Clip
) -> dict[str, Callable[[], list[Recalled]]]:
    state = clip.obs["state"].numpy()
    clip = clip.to(next(model.parameters()).device)
    if isinstance(worlds, RevisitVector):
        rooms = worlds.questions(state, _middle(args), args.sensor)
        return {"rooms": lambda: generated(model, clip, rooms, _middle(args))}
    assert isinstance(worlds, RecallVector)
    questions = worlds.questions(state, args.sensor)
    last = worlds.config.pairs * worlds.config.show - 1
    return {
        "doors": lambda: generated(model, clip, questions, worlds.asking),
        "corridor": lambda: generated(model, clip, questions, last),
        "probe": lambda: probed(model, clip, questions),
    }


def _whole(args: argparse.Namespace, store: Store, sensors: list[str]) -> Clip:
    """All episodes as one clip; they are equally long."""
    length = int(store.lengths.min())
    cut = Clips(store, None, length, len(store), sensors=sensors)
    return cut.cut(np.arange(len(store)))


def _middle(args: argparse.Namespace) -> int:
    return args.steps // 2


def _line(who: str, delay: int, seed: int, found: Recalled) -> str:
    lag = "never" if found.lag[0] == NEVER else "–".join(map(str, dict.fromkeys(found.lag)))
    accuracy = f"{found.accuracy:.3f} ({found.low:.3f}–{found.high:.3f})"
    error = "" if found.error is None else f"{found.error:.4f} of {found.error_floor:.4f}"
    return (
        f"{who:10} {delay or '':>5} {seed:4} {lag:>11} {found.n:6} {accuracy:>22} {found.floor:6.3f} "
        f"{found.ceiling:7.3f}  {error}"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", default="rssm")
    parser.add_argument("--preset", help="of the family; none: its defaults")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings other than the preset's")
    parser.add_argument("--world", choices=["recall", "revisit"], default="recall")
    parser.add_argument("--sensor", choices=["pixels", "symbols"], default="pixels", help="what the model sees")
    parser.add_argument("--size", type=int, default=32, help="side of the pictures")
    parser.add_argument("--cues", type=int, default=4, help="colours, of cues or of tiles")
    parser.add_argument("--delay", type=int, nargs="+", default=[10, 30, 100], help="recall: lengths of the corridor")
    parser.add_argument("--pairs", type=int, default=1, help="recall: keys, each with a colour")
    parser.add_argument("--cells", type=int, default=9, help="revisit: side of the maze")
    parser.add_argument("--steps", type=int, default=200, help="revisit: length of an episode; half is the context")
    parser.add_argument("--lag", type=int, default=50, help="revisit: the walker returns to what it saw so long ago")
    parser.add_argument("--episodes", type=int, default=1000, help="to learn from")
    parser.add_argument("--asked", type=int, default=200, help="others, to be asked about")
    parser.add_argument("--updates", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=16, help="clips in an update")
    parser.add_argument("--length", type=int, help="actions in a clip; none: whole episodes")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--device", default="cpu", choices=["auto", "cpu", "cuda", "mps"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--verbose", action="store_true", help="the losses, too")
    parser.add_argument("--out", type=Path, help="write the rows there, as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
