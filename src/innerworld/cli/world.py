"""`innerworld train FAMILY --env WORLD`, and what `innerworld evaluate` says of such a run: learning in a world."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from innerworld import checkpoint
from innerworld.cli.preset import begin, begin_as
from innerworld.cli.settings import changed, last_row, refuse, refuse_difference
from innerworld.cli.table import number_rows, say, show_table
from innerworld.cli.verb import Answer, Call
from innerworld.config import build
from innerworld.errors import UserError
from innerworld.families import FAMILIES
from innerworld.recipes.earnings import evaluate_practice
from innerworld.recipes.habits import habits
from innerworld.recipes.online import FREE, practise
from innerworld.recipes.practice import Practice, read_practice
from innerworld.recipes.practice_page import show_practice
from innerworld.training import FREE_ON_RESUME

if TYPE_CHECKING:
    from innerworld.cli.train import TrainFlags

OF_STORES = ("batch", "length", "stages", "frame_skip", "held_out", "split_seed", "workers", "watch_sensor", "strategy")
"""Flags that say how a store is read."""
IN_WORLDS = {"batch": "online.batch=", "length": "online.length=", "frame_skip": "online.action_repeat="}
"""What some of them are called where there is none."""


def train_in_world(flags: TrainFlags, call: Call) -> Answer:
    """Let a family that acts learn in a world, from flags and `key=value` words, or go on. Raises `UserError`."""
    _refuse_flags(flags, call)
    practice = _resumed(flags, call) if flags.resume else _begun(flags, call)
    console = Console(stderr=True, quiet=call.quiet)
    began = time.perf_counter()
    model = practise(
        practice, flags.out, call.quiet, flags.resume, call.command, flags.track, lambda line: say(console, line)
    )
    seconds = time.perf_counter() - began
    page = None if flags.no_page else _page(flags.out, call)
    values = {
        "run": str(flags.out),
        "family": practice.family,
        "env": practice.online.env,
        "sensors": list(model.spec.obs),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "steps": practice.train.steps,
        "seconds": round(seconds, 1),
        "last": last_row(flags.out / "log.jsonl"),
        "page": None if page is None else str(page),
    }
    return Answer(values, lambda console: _show(console, values))


def evaluate_in_world(folder: Path, episodes: int, seed: int, call: Call, drawings: bool = True) -> Answer:
    """Returns of a run's policy, and of a random one, in the world that it learnt in, and what it draws of that."""
    values = evaluate_practice(folder, episodes, seed, call.quiet, drawings)
    results = values["results"]
    names = ("return", "return_std", "return_median", "length", "episodes")
    rows = [[who, *(f"{found[name]:.4g}" for name in names)] for who, found in results.items()]

    def show(console: Console) -> None:
        say(console, f"{folder}: {values['family']} in {values['env']}, after {values['updates']} updates")
        show_table(console, ("who", *names), rows)
        if "drawn" in values:
            show_table(console, ("what it draws", ""), number_rows({"": values["drawn"]}))

    return Answer(values, show)


def _refuse_flags(flags: TrainFlags, call: Call) -> None:
    if flags.data is not None:
        raise UserError("--env and --data exclude each other: learn in a world, or from a store")
    for name in OF_STORES:
        if name in call.given:
            instead = f": say {IN_WORLDS[name]}…" if name in IN_WORLDS else ""
            raise UserError(f"--{name.replace('_', '-')} is for a store, not for --env{instead}")
    if flags.devices > 1:
        raise UserError("learning in a world works in one process: leave out --devices")
    if any(word.startswith("train.check_every=") for word in call.overrides):
        raise UserError("train.check_every is for the collapse watch: say online.eval_every=…")


def _begun(flags: TrainFlags, call: Call) -> Practice:
    family = str(flags.family)
    if checkpoint.exists(flags.out):
        raise UserError(f"{flags.out} already holds a run: continue it with --resume, or give another folder")
    if not FAMILIES[family].restarts:
        raise UserError(
            f"{family} does not learn in a world: its clips lie within one episode. Families that act: dreamer; "
            "others learn from a store (--data)"
        )
    online, train = habits(family, flags.preset)
    start, sensors = begin_as(family, flags.preset, flags.init_from, flags.sensors)
    online = online.model_copy(update={"env": flags.env, "sensors": sensors})
    parts = {"model": start, "online": online, "train": train}
    model, online, train = changed(parts, call.overrides)
    if online.env != flags.env or ("sensors" in call.given and online.sensors != flags.sensors):
        raise UserError("the world and its sensors are said by --env and --sensors: leave out online.env and .sensors")
    its = model.model_dump(mode="json")
    return Practice(family=family, init_from=flags.init_from, model=its, online=online, train=train)


def _resumed(flags: TrainFlags, call: Call) -> Practice:
    """The run's own practice, as overridden. Raises `UserError` that names a flag or key that differs."""
    before = read_practice(flags.out)
    if flags.family != before.family:
        raise UserError(f"{flags.out} is a run of {before.family}, not of {flags.family}")
    if flags.env is not None and flags.env != before.online.env:
        refuse(flags.out, "--env", before.online.env, flags.env)
    if "sensors" in call.given and flags.sensors != before.online.sensors:
        refuse(flags.out, "--sensors", before.online.sensors, flags.sensors)
    if "init_from" in call.given and flags.init_from != before.init_from:
        refuse(flags.out, "--init-from", before.init_from, flags.init_from)
    own = build(FAMILIES[before.family].Config, before.model, f"{flags.out}: model")
    start = begin(before.family, flags.preset) if flags.preset is not None else own
    parts = {"model": start, "online": before.online, "train": before.train}
    model, online, train = changed(parts, call.overrides)
    refuse_difference(flags.out, "model", own, model)
    refuse_difference(flags.out, "online", before.online, online, FREE)
    refuse_difference(flags.out, "train", before.train, train, FREE_ON_RESUME)
    return before.model_copy(update={"online": online, "train": train})


def _page(folder: Path, call: Call) -> Path | None:
    """What was learnt is safe by now: where it cannot be shown, a warning says why."""
    try:
        return show_practice(folder, call.command)
    except UserError as error:
        logging.getLogger(__name__).warning("no train.html was written: %s", error)
        return None


def _show(console: Console, values: dict[str, Any]) -> None:
    told = f"{values['family']} in {values['env']}, {values['parameters']} parameters, {values['steps']} updates"
    say(console, f"{values['run']}: {told}")
    say(console, "  ".join(f"{name} {value:.4g}" for name, value in values["last"].items() if value is not None))
    if values["page"] is not None:
        say(console, f"page: {values['page']}")
