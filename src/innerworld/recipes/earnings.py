"""What a policy that was learnt in a world earns there, beside a random one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from innerworld import checkpoint, envs
from innerworld.data.lives import Lives
from innerworld.disk import write_atomic
from innerworld.evaluate.returns import AtRandom, earn, summary
from innerworld.log import progress
from innerworld.recipes.acting import Acting
from innerworld.recipes.dreamt import draw_practice
from innerworld.recipes.online import APART, EXAMINED
from innerworld.recipes.practice import read_practice
from innerworld.version import VERSION
from innerworld.world import WorldModel


def evaluate_practice(
    folder: Path, episodes: int, seed: int = 0, quiet: bool = False, drawings: bool = True
) -> dict[str, Any]:
    """Returns of the newest checkpoint and of the best one, where one is kept, and of random actions.

    Each plays the same `episodes` episodes; the policies do what they hold most likely, "drawn" draws. `drawings`: what
    the newest draws is judged, too, where it draws pictures. The numbers go into `returns.json` in the folder.

    Raises `UserError` for a folder without such a run, and a world that fails.
    """
    practice, found = read_practice(folder), dict[str, Mapping[str, float]]()
    model = _load(folder)
    header = checkpoint.read_header(folder)
    with closing(practice.online.make(min(EXAMINED, episodes))) as worlds:
        spec = envs.spec_of(worlds.single_observation_space, worlds.single_action_space)
        players = {"policy": Acting(model, False), "drawn": Acting(model, True, seed), "random": AtRandom(spec, seed)}
        if (folder / "best.json").exists():
            players["best"] = Acting(_load(folder, best=True), False)
        with progress("live", len(players) * episodes, quiet) as show:
            for k, (who, player) in enumerate(players.items()):
                lives = Lives(worlds, spec, practice.train.seed + APART + 1 + seed)
                tell = lambda done, before=k * episodes: show(before + done)
                found[who] = summary(earn(player, lives, episodes, tell=tell))
    values = {
        "run": str(folder),
        "family": practice.family,
        "env": practice.online.env,
        "updates": header.step,
        "seed": seed,
        "innerworld": VERSION,
        "results": found,
    }
    with progress("look at what is drawn", int(drawings), quiet or not drawings):
        drawn = draw_practice(model, practice, seed) if drawings else None
    if drawn is not None:
        values["drawn"] = drawn.metrics
    write_atomic(folder / "returns.json", [json.dumps(values, indent=2).encode()])
    return values


def _load(folder: Path, best: bool = False) -> WorldModel:
    return checkpoint.load(folder, best=best, kind=WorldModel)
