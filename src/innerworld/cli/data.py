"""`innerworld collect` and `innerworld import`: experience into a store."""

from __future__ import annotations

import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from gymnasium.vector import VectorEnv
from rich.console import Console

from innerworld import envs
from innerworld.cli.table import say
from innerworld.cli.verb import Answer, Call, Verb
from innerworld.data import POLICIES, About, Store, collect, import_npz, import_pusht
from innerworld.errors import UserError, choose
from innerworld.log import progress
from innerworld.types import Spec


@dataclass(frozen=True)
class CollectFlags:
    """Let a policy explore a world and store what it sees."""

    env: tyro.conf.Positional[str]
    """a name of `innerworld envs`, or any Gymnasium id"""
    out: Path
    """folder of the store"""
    episodes: int = 1000
    """how many episodes"""
    envs: int = 64
    """worlds stepped together, at most as many as episodes"""
    policy: str = "smooth"
    """who acts: smooth keeps a direction for a while, uniform does not"""
    seed: int = 0
    """of worlds and policy; with --append it goes on from the store's own"""
    size: int = 64
    """side of the pictures, in pixels"""
    max_steps: int | None = None
    """longest episode, in steps; None: the world's own"""
    sensors: tuple[str, ...] | None = None
    """sensors to keep, of a Gymnasium id; None: all"""
    action_low: tuple[float, ...] | None = None
    """what -1 stands for, one number or one per dimension, of a Gymnasium id"""
    action_high: tuple[float, ...] | None = None
    """what +1 stands for"""
    parallel: bool = False
    """give each world a process of its own, for a Gymnasium id that is slow"""
    append: bool = False
    """add to the store that the folder holds"""


@dataclass(frozen=True)
class ImportFlags:
    """Make a store of experience from a log that others recorded."""

    kind: tyro.conf.Positional[Literal["pusht", "npz"]]
    """pusht: Diffusion Policy's human demonstrations; npz: a folder of one .npz per episode"""
    path: tyro.conf.Positional[Path]
    """the log: a .zarr folder (pusht) or a folder of .npz files"""
    out: Path
    """folder of the store"""
    size: int = 64
    """pusht: side of the pictures, in pixels"""
    action_low: tuple[float, ...] | None = None
    """npz: what -1 is to stand for, one number per dimension; None: actions lie in [-1, 1] already"""
    action_high: tuple[float, ...] | None = None
    """npz: what +1 is to stand for"""
    choices: int | None = None
    """npz: actions are whole numbers below this"""
    on_bad: Literal["stop", "skip"] = "stop"
    """what to do about an episode that cannot be used"""


def _collect(flags: CollectFlags, call: Call) -> Answer:
    kind = choose("policy", flags.policy, POLICIES)
    if flags.episodes < 1 or flags.seed < 0:
        raise UserError("--episodes is at least 1 and --seed at least 0")
    with warnings.catch_warnings(), closing(_worlds(flags)) as worlds:
        # Gymnasium's, after Ctrl-C with --parallel: nothing that the user could mend.
        warnings.filterwarnings("ignore", ".*Calling `close` while waiting")
        spec = envs.spec_of(worlds.single_observation_space, worlds.single_action_space)
        store, seed = _store(flags, call, spec, worlds)
        had, began = store.transitions, time.perf_counter()
        with progress(f"collect {flags.env}", flags.episodes, call.quiet) as shown:
            collect(worlds, kind(spec), flags.episodes, store, seed, lambda done, _: shown(done))
        seconds = time.perf_counter() - began
    values = _contents(store) | {
        "seed": seed,
        "episodes_new": flags.episodes,
        "transitions_new": store.transitions - had,
        "transitions_per_s": round((store.transitions - had) / seconds, 1),
    }

    def show(console: Console) -> None:
        _show_contents(console, values)
        say(console, f"{values['transitions_new']} transitions new, {values['transitions_per_s']:.0f} per second")

    return Answer(values, show)


def _worlds(flags: CollectFlags) -> VectorEnv:
    with _unheard() if flags.parallel else nullcontext():
        return envs.make(
            flags.env,
            min(flags.envs, flags.episodes),
            flags.size,
            max_steps=flags.max_steps,
            sensors=flags.sensors,
            action_low=_few(flags.action_low),
            action_high=_few(flags.action_high),
            parallel=flags.parallel,
        )


@contextmanager
def _unheard() -> Iterator[None]:
    """Ignore Ctrl-C, which processes that start meanwhile inherit for life.

    A terminal sends it to all of them: they would die in the middle of a step, each with its traceback, while we want
    to hear it ourselves, store what has ended and close them.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _store(flags: CollectFlags, call: Call, spec: Spec, worlds: VectorEnv) -> tuple[Store, int]:
    """The store to add to, and the seed to collect with."""
    if (flags.out / "meta.json").exists():
        return _store_to_append(flags, call)
    about = About(
        env=flags.env,
        policy=flags.policy,
        seed=flags.seed,
        action_low=flags.action_low,
        action_high=flags.action_high,
        fps=worlds.metadata.get("render_fps"),
        more={"envs": worlds.num_envs, "max_steps": flags.max_steps, "command": call.command},
    )
    return Store.create(flags.out, spec, about), flags.seed


def _store_to_append(flags: CollectFlags, call: Call) -> tuple[Store, int]:
    store = Store.open(flags.out)
    about = store.meta.about
    if not flags.append:
        raise UserError(
            f"{flags.out} holds a store of {len(store)} episodes: add to it with --append, or give another folder"
        )
    if about.env != flags.env:
        raise UserError(f"{flags.out} holds experience of {about.env!r}, not {flags.env!r}: give another folder")
    if about.seed is None or "seed" in call.given:
        if about.seed == flags.seed:
            raise UserError(f"--seed {flags.seed} would collect the same episodes again: give another seed, or none")
        return store, flags.seed
    return store, about.seed + len(store)  # grows with each call, so that no episode comes twice


def _import(flags: ImportFlags, call: Call) -> Answer:
    only = {"size": "pusht", "action_low": "npz", "action_high": "npz", "choices": "npz"}
    for name, kind in only.items():
        if name in call.given and kind != flags.kind:
            raise UserError(f"--{name.replace('_', '-')} is for import {kind}, not {flags.kind}: leave it out")
    if flags.kind == "pusht":
        store, skipped = import_pusht(flags.path, flags.out, flags.size, flags.on_bad)
    else:
        about = About(env=flags.path.name, more={"source": flags.path.name, "command": call.command})
        store, skipped = import_npz(
            flags.path, flags.out, flags.action_low, flags.action_high, flags.choices, about, flags.on_bad
        )
    values = _contents(store) | {"skipped": skipped}

    def show(console: Console) -> None:
        _show_contents(console, values)
        for reason in skipped:
            say(console, f"skipped {reason}")

    return Answer(values, show)


def _contents(store: Store) -> dict[str, object]:
    return {
        "store": str(store.path),
        "episodes": len(store),
        "transitions": store.transitions,
        "bytes": sum(file.stat().st_size for file in store.path.rglob("*") if file.is_file()),
        "sensors": {name: list(shape) for name, shape in store.spec.obs.items()},
        "action": store.spec.action,
        "discrete": store.spec.discrete,
    }


def _show_contents(console: Console, values: dict[str, object]) -> None:
    megabytes = float(str(values["bytes"])) / 1e6
    say(
        console,
        f"{values['store']}: {values['episodes']} episodes, {values['transitions']} transitions, {megabytes:.1f} MB",
    )


def _few(bounds: tuple[float, ...] | None) -> tuple[float, ...] | float | None:
    """One number stands for all dimensions."""
    return bounds[0] if bounds is not None and len(bounds) == 1 else bounds


COLLECT = Verb(CollectFlags, _collect)
IMPORT = Verb(ImportFlags, _import)
