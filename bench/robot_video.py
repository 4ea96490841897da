"""Do families that draw foresee a real robot's video? G1 (LeRobot) and Bridge (RLDS), held-out episodes.

Each family is taught on four fifths of the episodes, with its small preset and the robot's camera alone, and imagines
the others with their true actions: PSNR beside repeating the last frame (copy-last) and beside the codec's floor; what
wrong actions cost: ΔPSNR (true against random ones), error with another clip's actions ÷ with its own, in pictures and
in the loss; and whether an inverse model reads the true actions off what was imagined.

    python bench/robot_video.py g1 --data G1_FOLDER --out runs/robot_video --teach-s 1200
    python bench/robot_video.py bridge --data BRIDGE_FOLDER --out runs/robot_video --families video glp --teach-s 600

`--teach-s` CPU seconds are turned into steps by timing a few; the tokenizer's own lessons are in them. G1's actions are
targets of its joints: another clip's ask for another posture, so that a gap between true and wrong ones shows that they
are heeded and not that small differences are. What is done already is not done again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from pixel_planning import within
from robots import ROBOTS

from innerworld import models
from innerworld.data import Store
from innerworld.recipes.drawings import draw
from innerworld.recipes.lesson import Lesson, read, teach
from innerworld.training import TrainConfig
from innerworld.world import WorldModel

FAMILIES = ("video", "glp", "diffusion", "genie", "rssm")
STEPS = (1, 4, 10)
WRONG = ("delta_psnr_4", "shuffled_picture_ratio_4", "shuffled_loss_ratio")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("robot", choices=tuple(ROBOTS))
    parser.add_argument("--data", type=Path, required=True, help="folder of the LeRobot or RLDS data set")
    parser.add_argument("--out", type=Path, required=True, help="folder for the store, what is taught, and the results")
    parser.add_argument("--families", nargs="+", default=list(FAMILIES))
    parser.add_argument("--size", type=int, default=64, help="side of the pictures, pixels")
    parser.add_argument("--teach-s", type=float, default=1200.0, help="CPU seconds of teaching for each family")
    parser.add_argument("--batch", type=int, default=8, help="clips in a training step")
    parser.add_argument("--length", type=int, default=8, help="actions in a clip")
    parser.add_argument("--limit", type=int, help="use no more than so many episodes")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    home = args.out / f"{args.robot}-{args.size}"
    store, robot = ROBOTS[args.robot](args.data, home / "data", args.limit, args.size)
    print(f"{len(store)} episodes, {store.transitions} actions, {robot.sensor} at {args.size} pixels", flush=True)
    rows = {}
    for family in args.families:
        lesson = Lesson(
            family=family,
            data=str(home / "data"),
            sensors=(robot.sensor,),
            held_out=0.2,
            split_seed=args.seed,
            batch=args.batch,
            length=args.length,
            watch_sensor="none",
            model=models.config(family, "small").model_dump(mode="json"),
            train=TrainConfig(
                lr=1e-3, final_lr_fraction=0.1, weight_decay=1e-4, save_every=100, keep=1, device="cpu", seed=args.seed
            ),
        )
        rows[family] = _judged(lesson, home / family, store, args.teach_s, args.seed)
    show(rows)


def _judged(lesson: Lesson, folder: Path, store: Store, seconds: float, seed: int) -> dict[str, Any]:
    """Teach, if it was not, and judge, if it was not."""
    results = folder / "drawings.json"
    if results.exists():
        return json.loads(results.read_text())
    begun = (folder / "run.json").exists()
    lesson = read(folder) if begun else within(lesson, store, seconds)
    model = teach(lesson, folder, quiet=True, resume=begun, command="bench/robot_video.py")
    assert isinstance(model, WorldModel)
    print(f"{lesson.family}: taught in {lesson.train.steps} steps", flush=True)
    drawn = draw(model, lesson, store, seed)
    assert drawn is not None, f"{lesson.family} draws no pictures"
    told = {"parameters": sum(p.numel() for p in model.parameters()), "steps": lesson.train.steps}
    found = told | drawn.metrics | {"protocol": drawn.protocol}
    results.write_text(json.dumps(found))
    return found


def show(rows: dict[str, dict[str, Any]]) -> None:
    """The table, each number with its 95 % interval over clips where it has one."""
    heads = ["family", "parameters", "steps"]
    heads += [f"PSNR at {h}, dB (copy-last)" for h in STEPS] + ["codec's floor, dB", "ΔPSNR at 4, dB"]
    heads += ["error with another's actions ÷ own, at 4", "loss likewise", "actions read back, R² (off real frames)"]
    print(f"\n| {' | '.join(heads)} |\n|---|{'--:|' * (len(heads) - 1)}")
    for family, found in rows.items():
        cells = [family, f"{found['parameters']:,}", f"{found['steps']:,}"]
        cells += [_pair(found, f"psnr_{h}", f"psnr_still_{h}") for h in STEPS]
        cells += [_told(found, "psnr_codec", False), *(_told(found, name) for name in WRONG)]
        cells.append(_pair(found, "readback_r2", "readback_real_r2"))
        print(f"| {' | '.join(cells)} |", flush=True)


def _pair(found: dict[str, Any], name: str, beside: str) -> str:
    return f"{_told(found, name)} ({_told(found, beside, False)})" if name in found else "episodes too short"


def _told(found: dict[str, Any], name: str, interval: bool = True) -> str:
    if name not in found:
        return ""
    told = f"{found[name]:.2f}"
    return f"{told} [{found[f'{name}_low']:.2f}, {found[f'{name}_high']:.2f}]" if interval else told


if __name__ == "__main__":
    main()
