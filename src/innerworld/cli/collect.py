"""`innerworld collect`: let a policy explore a world, and store what it sees."""

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
from innerworld.cluster import connect
from innerworld.data import POLICIES, About, Store, collect
from innerworld.errors import UserError, choose
from innerworld.log import progress
from innerworld.recipes.parts import Collection, begun, collect_parts
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
    timeout_s: float = 60.0
    """--parallel: how long a world may take to answer, in seconds; then it is begun again"""
    restarts: int = 3
    """--parallel: how often each world is begun again before that is an error"""
    append: bool = False
    """add to the store that the folder holds"""
    frames: Literal["raw", "zstd", "jpeg"] = "raw"
    """how images lie in a new store: raw, zstd (smaller, nothing lost) or jpeg (smallest, a little lost)"""
    workers: int | None = None
    """processes that collect side by side; the episodes are the same for any number. None: this process alone"""
    cluster: str = "local"
    """where they run: local, ray, or the address of a Ray cluster (extra: cluster)"""


def _collect(flags: CollectFlags, call: Call) -> Answer:
    kind = choose("policy", flags.policy, POLICIES)
    if flags.episodes < 1 or flags.seed < 0:
        raise UserError("--episodes is at least 1 and --seed at least 0")
    if flags.envs < 1:
        raise UserError(f"--envs is at least 1, got {flags.envs}")
    if flags.timeout_s <= 0 or flags.restarts < 0:
        raise UserError("--timeout-s is above 0 and --restarts at least 0")
    if not flags.parallel and call.given & {"timeout_s", "restarts"}:
        raise UserError("--timeout-s and --restarts are for worlds in processes of their own: give --parallel")
    with warnings.catch_warnings(), closing(_worlds(flags)) as worlds:
        # Gymnasium's, after Ctrl-C with --parallel: nothing that the user could mend.
        warnings.filterwarnings("ignore", ".*Calling `close` while waiting")
        spec = envs.spec_of(worlds.single_observation_space, worlds.single_action_space)
        store, seed = _store(flags, call, spec, worlds)
        had, began = store.transitions, time.perf_counter()
        with progress(f"collect {flags.env}", flags.episodes, call.quiet) as shown:
            if _is_shared(flags):
                with connect(flags.cluster, flags.workers) as place:
                    collect_parts(_collection(flags, store, seed), store, place, shown)
            else:
                collect(worlds, kind(spec), flags.episodes, store, seed, lambda done, _: shown(done))
        seconds = time.perf_counter() - began
    values = contents(store) | {
        "seed": seed,
        "episodes_new": flags.episodes,
        "transitions_new": store.transitions - had,
        "transitions_per_s": round((store.transitions - had) / seconds, 1),
    }

    def show(console: Console) -> None:
        show_contents(console, values)
        say(console, f"{values['transitions_new']} transitions new, {values['transitions_per_s']:.0f} per second")

    return Answer(values, show)


def _worlds(flags: CollectFlags) -> VectorEnv:
    """The worlds of this process; where workers have their own, one to know what it looks like."""
    mine = _collection(flags, None, flags.seed)
    if _is_shared(flags):
        return mine.model_copy(update={"worlds": 1, "parallel": False}).make()
    with _unheard() if flags.parallel else nullcontext():
        return mine.make()


def _is_shared(flags: CollectFlags) -> bool:
    return flags.workers is not None or flags.cluster != "local"


def _collection(flags: CollectFlags, store: Store | None, seed: int) -> Collection:
    mine = Collection(
        env=flags.env,
        policy=flags.policy,
        episodes=flags.episodes,
        worlds=flags.envs,
        seed=seed,
        size=flags.size,
        max_steps=flags.max_steps,
        sensors=flags.sensors,
        action_low=_few(flags.action_low),
        action_high=_few(flags.action_high),
        parallel=flags.parallel,
        timeout_s=flags.timeout_s,
        restarts=flags.restarts,
    )
    if store is None:
        return mine
    waiting = begun(store.path)  # to be gone on with: the store had fewer episodes when that began
    return mine.model_copy(update={"before": len(store) if waiting is None else waiting.before})


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
        waiting = begun(flags.out) if _is_shared(flags) else None
        return _store_to_append(flags, call) if waiting is None else (Store.open(flags.out), waiting.seed)
    about = About(
        env=flags.env,
        policy=flags.policy,
        seed=flags.seed,
        action_low=flags.action_low,
        action_high=flags.action_high,
        fps=worlds.metadata.get("render_fps"),
        more={"envs": min(flags.envs, flags.episodes), "max_steps": flags.max_steps, "command": call.command},
    )
    return Store.create(flags.out, spec, about, flags.frames), flags.seed


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


def contents(store: Store) -> dict[str, object]:
    return {
        "store": str(store.path),
        "episodes": len(store),
        "transitions": store.transitions,
        "bytes": sum(file.stat().st_size for file in store.path.rglob("*") if file.is_file()),
        "sensors": {name: list(shape) for name, shape in store.spec.obs.items()},
        "action": store.spec.action,
        "discrete": store.spec.discrete,
    }


def show_contents(console: Console, values: dict[str, object]) -> None:
    megabytes = float(str(values["bytes"])) / 1e6
    say(
        console,
        f"{values['store']}: {values['episodes']} episodes, {values['transitions']} transitions, {megabytes:.1f} MB",
    )


def _few(bounds: tuple[float, ...] | None) -> tuple[float, ...] | float | None:
    """One number stands for all dimensions."""
    return bounds[0] if bounds is not None and len(bounds) == 1 else bounds


COLLECT = Verb(CollectFlags, _collect)
