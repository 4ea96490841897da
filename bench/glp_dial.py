"""The guardrail dial: is a latent world model better checked in latents, in pictures, or in both?

Five settings of family glp, the same encoder, dynamics, data and search for all; L = a · L_latent + b · L_gen + what
keeps latents apart (SIGReg and an inverse model, as `jepa`'s `small` has them):

    unchecked    a = 1, b = 0, nothing apart: Proposition 1 of arXiv 2511.09057 says that it collapses
    jepa         a = 1, b = 0, apart
    both         a = 1, b = 1, apart
    glp          a = 1, b = 1, nothing apart: the decoder alone is to prevent a collapse
    pan          a = 0, b = 1, nothing apart; imagines in a closed loop, each picture is drawn and looked at again

and by name (`--settings light`) one between the last two:

    light        a = 0.01, b = 1, nothing apart: does the latent loss collapse what the decoder would keep?

    python bench/glp_dial.py --folder runs/dial --seeds 0 1 2 --plot docs/glp-dial.svg
    python bench/glp_dial.py --folder runs/tiny --worlds two_rooms --episodes 40 --steps 20 --goals 2 --horizon 4
    python bench/glp_dial.py --folder runs/dial --worlds pusht --demonstrations data/pusht --horizon 24

Worlds: `two_rooms`; `two_rooms_noise`, the same before a floor that nobody can foresee; `paddle`, which has no goals;
`pusht`, human demonstrations that were imported, with goals 25 steps later in the same demonstration.
What is measured on held-out episodes: a linear probe of the state (R²); effective rank and deviation of the features;
error of the imagined latents and of the state that the probe reads off them, by standing still; of those that draw,
error of pictures by standing still; goals reached by planning in latents; CPU seconds. A cell that is done is not done
again (delete its JSON to judge it again, its folder to teach it again); one that was interrupted goes on, and tells the
seconds of its last part.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from innerworld.agent import AgentConfig
from innerworld.data import Clips, Store
from innerworld.errors import UserError
from innerworld.evaluate.collapse import collapse
from innerworld.evaluate.control import play, summary
from innerworld.evaluate.judge import beliefs
from innerworld.evaluate.prediction import position_error, prediction
from innerworld.evaluate.probing import linear_probe
from innerworld.models import GLP
from innerworld.plan import ICEM
from innerworld.recipes.goals import agent, draw_goals, goal_worlds
from innerworld.recipes.lesson import Lesson, episodes, teach
from innerworld.recipes.stages import gather, lesson
from innerworld.recipes.two_rooms import Control, Run, School
from innerworld.training import TrainConfig
from innerworld.world import WorldModel


@dataclass(frozen=True)
class Place:
    """A world, and how it is explored, judged and planned in."""

    imported: bool = False  # its episodes are a store that there is, not collected here
    size: int = 64  # of the picture, pixels
    policy: str = "smooth"
    shown: slice = field(default_factory=lambda: slice(None))  # of the state, what one picture shows
    hold: int = 1  # steps of an action while a plan is searched for
    goals: dict[str, Any] = field(default_factory=dict)


WORLDS = {
    "two_rooms": Place(),
    "two_rooms_noise": Place(),
    "paddle": Place(size=32, policy="uniform", shown=slice(1, 4)),  # paddle and ball
    "pusht": Place(imported=True, hold=3, goals={"goals": "one_episode", "goal_offset": 25, "budget": 50}),
}
AHEAD = (1, 8)  # steps
PROBED, CLIPS = 100, 128  # episodes that a probe is fitted or judged on; clips to foresee
FREE = {"sigreg": 0.0, "inverse": 0.0}
SETTINGS: dict[str, dict[str, Any]] = {
    "unchecked": {"latent": 1.0, "generative": 0.0, "jepa": FREE},
    "jepa": {"latent": 1.0, "generative": 0.0},
    "both": {"latent": 1.0, "generative": 1.0},
    "glp": {"latent": 1.0, "generative": 1.0, "jepa": FREE},
    "pan": {"latent": 0.0, "generative": 1.0, "jepa": FREE, "reencode": True},
    "light": {"latent": 0.01, "generative": 1.0, "jepa": FREE},
}
FIVE = ("unchecked", "jepa", "both", "glp", "pan")
COLUMNS = {
    "probe_r2": "probe R²",
    "effective_rank": "effective rank",
    "std_mean": "deviation",
    "energy_ratio_1": "latent error, 1 step",
    "energy_ratio_8": "8 steps",
    "position_ratio_8": "state error, 8 steps",
    "pixel_ratio_1": "picture error, 1 step",
    "pixel_ratio_8": "8 steps",
    "success_rate": "goals reached",
    "train_cpu_s": "CPU s of teaching",
    "cpu_s_per_episode": "CPU s a goal",
}
DRAWN = ("probe_r2", "effective_rank", "position_ratio_8", "success_rate", "train_cpu_s")

Cell = dict[str, float]


def main() -> None:
    args = _arguments()
    torch.set_num_threads(1)
    found: dict[tuple[str, str], list[Cell]] = {}
    for world, seed, name in _cells(args):
        cell = once(world, seed, name, args)
        found.setdefault((world, name), []).append(cell)
        told = ", ".join(f"{title} {cell[key]:.3g}" for key, title in COLUMNS.items() if key in cell)
        print(f"  {world} seed {seed} {name}: {told}", flush=True)
    for world in args.worlds:
        show(world, {name: found[world, name] for name in args.settings})
    if args.plot:
        plot(found, args.worlds, args.settings, args.plot)


def _cells(args: argparse.Namespace) -> Iterator[tuple[str, int, str]]:
    for world in args.worlds:
        for seed in args.seeds:
            for name in args.settings:
                yield world, seed, name


def once(world: str, seed: int, name: str, args: argparse.Namespace) -> Cell:
    """Teach one setting in one world, judge it, and try its goals."""
    folder = args.folder / world / str(seed)
    file = folder / f"{name}.json"
    if file.exists():
        return json.loads(file.read_text())
    run = plan(world, seed, name, args)
    imported = WORLDS[world].imported
    data = args.demonstrations if imported else folder / "data"
    store = Store.open(data) if imported else gather(run, folder, quiet=True)
    taught = lesson(run, name, folder).model_copy(update={"data": str(data)})
    began = time.process_time()
    model = teach(taught, folder / name, quiet=True, resume=True)
    assert isinstance(model, WorldModel)
    cost = {"train_cpu_s": time.process_time() - began}
    cell = cost | known(model, store, taught, seed, WORLDS[world].shown) | played(model, store, taught, run)
    file.write_text(json.dumps(cell))
    return cell


def known(model: WorldModel, store: Store, taught: Lesson, seed: int, shown: slice) -> Cell:
    """What its beliefs tell of the state that is `shown`, how alive they are, and how far ahead it sees, held out."""
    model.eval()
    learn, held_out = episodes(taught, store)
    clip = Clips(store, held_out, max(AHEAD), CLIPS, seed).batch(0)
    (x, y), (x_held, y_held) = (beliefs(model, store, some[:PROBED]) for some in (learn, held_out))
    probe = linear_probe(x, y[:, shown], x_held, y_held[:, shown])
    found = {"probe_r2": probe["r2"]} | collapse(x_held) | prediction(model, clip, AHEAD, seed=seed)
    seen = replace(clip, obs=clip.obs | {"state": clip.obs["state"][..., shown]})
    found |= position_error(model, seen, probe["weights"], probe["intercept"], AHEAD)
    for h in AHEAD:
        found[f"position_ratio_{h}"] = found[f"position_error_{h}"] / found[f"position_standing_still_{h}"]
    return {name: value for name, value in found.items() if math.isfinite(value)}


def played(model: WorldModel, store: Store, taught: Lesson, run: Run) -> Cell:
    """Goals reached; nothing where the world has none."""
    try:
        worlds = goal_worlds(store, run.control.episodes)
    except UserError:
        return {}
    tasks = draw_goals(store, episodes(taught, store)[1], worlds, run.seed, run.control)
    return summary(play(worlds, tasks, agent(model, run.control), run.control.budget, run.seed), tasks.far)


def plan(world: str, seed: int, name: str, args: argparse.Namespace) -> Run:
    place = WORLDS[world]
    train = TrainConfig(
        steps=args.steps, lr=1e-3, weight_decay=1e-4, warmup=min(100, args.steps // 5), final_lr_fraction=0.05,
        check_every=max(1, args.steps // 5), save_every=200, keep=2, device="cpu", seed=seed,
    )  # fmt: skip
    settings = SETTINGS[name]
    small = GLP.presets["small"].model_dump(mode="json")
    jepa = small["jepa"] | settings.get("jepa", {})
    model = small | settings | {"jepa": jepa, "reward": 0.0, "continues": 0.0}
    search = ICEM(
        horizon=args.horizon, samples=args.samples, rounds=4, elites=max(2, args.samples // 8), init_std=1.0,
        min_std=0.1, noise_beta=2.0, momentum=0.0, hold=place.hold,
    )  # fmt: skip
    control = Control(
        episodes=args.goals, planner=search.model_dump(), rounds_again=2, agent=AgentConfig(execute=args.execute),
        **place.goals,
    )  # fmt: skip
    school = School(family="glp", model=model, batch=64, length=12, train=train)
    return Run(
        env=world, size=place.size, episodes=args.episodes, worlds=min(100, args.episodes), seed=seed,
        policy=place.policy, schools={name: school}, control=control,
    )  # fmt: skip


def show(world: str, found: dict[str, list[Cell]]) -> None:
    """Means over seeds, and where there are several the least and the greatest."""
    seeds = max(len(cells) for cells in found.values())
    print(f"\n{world}, {seeds} seeds\n| setting | {' | '.join(COLUMNS.values())} |\n|---|{'--:|' * len(COLUMNS)}")
    for name, cells in found.items():
        print(f"| {name} | {' | '.join(_told(cells, key) for key in COLUMNS)} |", flush=True)


def _told(cells: list[Cell], key: str) -> str:
    values = [cell[key] for cell in cells if key in cell]
    if not values:
        return ""
    mean = f"{sum(values) / len(values):.3g}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.3g} to {max(values):.3g})"


def plot(found: dict[tuple[str, str], list[Cell]], worlds: list[str], settings: list[str], out: Path) -> None:
    """A row for each world, a panel for each number: seeds as points, their mean as a bar."""
    from matplotlib import pyplot

    pyplot.rcParams |= {"svg.fonttype": "none", "font.family": "DejaVu Sans", "svg.hashsalt": "innerworld"}
    size = (2.5 * len(DRAWN), 2.3 * len(worlds))
    figure, axes = pyplot.subplots(len(worlds), len(DRAWN), figsize=size, layout="constrained", squeeze=False)
    for axis, key in zip(axes[0], DRAWN, strict=True):
        axis.set_title(COLUMNS[key], fontsize=9)
    for row, world in zip(axes, worlds, strict=True):
        for axis, key in zip(row, DRAWN, strict=True):
            for i, name in enumerate(settings):
                values = [cell[key] for cell in found[world, name] if key in cell]
                if values:
                    axis.barh(i, sum(values) / len(values), color="#56b4e9", height=0.6)
                    axis.plot(values, [i] * len(values), "o", color="#0072b2", markersize=3)
            axis.set_yticks(range(len(settings)))
            axis.set_yticklabels(settings if axis is row[0] else [])
            axis.invert_yaxis()
            if key in ("probe_r2", "success_rate"):
                axis.set_xlim(0, 1)
        row[0].set_ylabel(world)
    figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None)
    pyplot.close(figure)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for the cells: WORLD/SEED/SETTING")
    parser.add_argument("--worlds", nargs="+", choices=list(WORLDS))
    parser.add_argument("--demonstrations", type=Path, help="store of Push-T demonstrations, for `pusht`")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--settings", nargs="+", default=list(FIVE), choices=list(SETTINGS))
    parser.add_argument("--episodes", type=int, default=600, help="to collect, of which a tenth is held out")
    parser.add_argument("--steps", type=int, default=600, help="of teaching, 64 clips of 12 actions each")
    parser.add_argument("--goals", type=int, default=20)
    parser.add_argument("--horizon", type=int, default=16, help="steps of a plan")
    parser.add_argument("--samples", type=int, default=64, help="candidates of a plan's rounds")
    parser.add_argument("--execute", type=int, default=4, help="actions done before the next plan")
    parser.add_argument("--plot", type=Path, help="draw it, .svg or .png (needs matplotlib)")
    parser.set_defaults(worlds=[name for name, place in WORLDS.items() if not place.imported])
    args = parser.parse_args()
    if any(WORLDS[name].imported for name in args.worlds) and args.demonstrations is None:
        parser.error("pusht needs --demonstrations (docs/data.md tells how to import them)")
    return args


if __name__ == "__main__":
    main()
