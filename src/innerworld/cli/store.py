"""`innerworld data …`: look at stores, check and mend them, and make new ones out of old ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from rich.console import Console

from innerworld.cli.table import say, show_table
from innerworld.cli.verb import Answer, Call, Verb
from innerworld.config import override
from innerworld.data.store import remake
from innerworld.data.store.examine import verify
from innerworld.data.store.mend import repair
from innerworld.data.store.store import Store
from innerworld.errors import UserError, choose
from innerworld.log import progress

Action = Literal["info", "verify", "repair", "merge", "split", "trim", "convert", "export"]


@dataclass(frozen=True)
class StoreFlags:
    """Look at a store, check or mend it, or make a new one out of it, which leaves it as it is."""

    action: tyro.conf.Positional[Action]
    """info: what is in it; verify: compare every checksum; repair: keep what is good; merge: several into one;
    split: one into several; trim: leave out or shorten episodes; convert: pack images anew; export: for others"""
    stores: tyro.conf.Positional[tuple[str, ...]]
    """folder of the store (info, export: or an address); merge: of each"""
    out: tuple[Path, ...] = ()
    """folder to make; split: one for each part"""
    shares: tuple[float, ...] = ()
    """split: how much of the episodes each part gets, by chance"""
    seed: int = 0
    """split: of the chance"""
    episodes: tuple[str, ...] = ()
    """split: which episodes each part gets, such as 0-99,120; trim: which to leave out"""
    shorter: int = 0
    """trim: leave out episodes of fewer actions"""
    begin: int = 0
    """trim: cut so many actions off the beginning of each episode"""
    most: int | None = None
    """trim: keep at most so many actions of each episode"""
    frames: Literal["raw", "zstd", "jpeg"] | None = None
    """convert: pack images so; zstd loses nothing, jpeg a little. None: as they are"""
    shard_mb: int | None = None
    """convert: size of the shards, in MB. None: up to 64 episodes or 64 MB"""
    format: str | None = None
    """export: what to write; its settings follow as key=value"""


BELONGS = {
    "out": ("merge", "split", "trim", "convert", "export"),
    "shares": ("split",),
    "seed": ("split",),
    "episodes": ("split", "trim"),
    "shorter": ("trim",),
    "begin": ("trim",),
    "most": ("trim",),
    "frames": ("convert",),
    "shard_mb": ("convert",),
    "format": ("export",),
}
"""Which flags are for which actions."""


def _run(flags: StoreFlags, call: Call) -> Answer:
    for name, actions in BELONGS.items():
        if name in call.given and flags.action not in actions:
            raise UserError(f"--{name.replace('_', '-')} is for {' and '.join(actions)}, not {flags.action}")
    if call.overrides and flags.action != "export":
        raise UserError(f"data {flags.action} takes flags only, not {call.overrides[0]!r}")
    if not flags.stores or (len(flags.stores) > 1 and flags.action != "merge"):
        raise UserError(f"data {flags.action} takes {'stores' if flags.action == 'merge' else 'one store'}")
    if "out" in {name for name, actions in BELONGS.items() if flags.action in actions} and not flags.out:
        raise UserError(f"data {flags.action} makes a new folder: name it with --out")
    if flags.action != "split" and len(flags.out) > 1:
        raise UserError(f"data {flags.action} makes one folder, --out names {len(flags.out)}")
    return ACTIONS[flags.action](flags, call)


# ---------------------------------------------------------------------- looking


def _info(flags: StoreFlags, call: Call) -> Answer:
    store = Store.open(flags.stores[0])
    with shown("count", call) as told:
        statistics = store.statistics(told)
    lengths = store.lengths
    values = _contents(store) | {
        "lengths": _distribution(lengths),
        "format": store.meta.format,
        "frames": store.meta.frames,
        "about": store.meta.about.model_dump(mode="json"),
        "made": store.meta.made.model_dump(mode="json"),
        "sources": [source.model_dump(mode="json") for source in store.meta.sources],
        "statistics": statistics.model_dump(mode="json")["columns"],
    }

    def show(console: Console) -> None:
        _show_contents(console, values)
        rows = [(key, _text(values[key])) for key in ("sensors", "action", "discrete", "frames", "format", "lengths")]
        rows += [(key, _text(value)) for part in ("about", "made") for key, value in values[part].items() if value]
        rows += [(f"from {source['name']}", f"{source['episodes']} episodes") for source in values["sources"]]
        show_table(console, ("what", "value"), rows)
        say(console)
        show_table(console, ("column", "mean", "std", "min", "max"), list(_moments(values["statistics"])))

    return Answer(values, show)


def _verify(flags: StoreFlags, call: Call) -> Answer:
    path = flags.stores[0]
    with shown("verify", call) as told:
        found = verify(path, told)
    values = {
        "store": path,
        "files": found.files,
        "episodes": found.episodes,
        "unchecked": found.unchecked,
        "faults": [{"file": fault.file, "episode": fault.episode, "what": fault.what} for fault in found.faults],
    }

    def show(console: Console) -> None:
        for fault in found.faults:
            say(console, f"{path}: {fault}")
        say(console, f"{path}: {found.episodes} good episodes in {found.files} files, {len(found.faults)} faults")
        if found.unchecked:
            say(console, f"{found.unchecked} episodes have no checksum (format 1): data convert gives them one")
        if found.faults:
            say(console, f"keep what is good with: innerworld data repair {path}")

    return Answer(values, show, code=1 if found.faults else 0)


def _repair(flags: StoreFlags, call: Call) -> Answer:
    path = flags.stores[0]
    with shown("repair", call) as told:
        done = repair(path, told)
    values = {"store": path, "episodes": done.episodes, "lost": done.lost, "moved": done.moved, "new": done.new}

    def show(console: Console) -> None:
        for line in done.lost:
            say(console, f"lost: {line}")
        for file in done.moved:
            say(console, f"moved aside: {path}/{file}")
        say(console, f"{path}: {done.episodes} good episodes kept")

    return Answer(values, show)


# ---------------------------------------------------------------------- making


def _merge(flags: StoreFlags, call: Call) -> Answer:
    with shown("merge", call) as told:
        return _made([remake.merge([Store.open(path) for path in flags.stores], flags.out[0], told)])


def _split(flags: StoreFlags, call: Call) -> Answer:
    store = Store.open(flags.stores[0])
    if bool(flags.shares) == bool(flags.episodes):
        raise UserError("data split takes either --shares 0.9 0.1 or --episodes 0-99 100-119")
    if flags.shares:
        parts: Sequence[Sequence[int]] = [each.tolist() for each in remake.shares(len(store), flags.shares, flags.seed)]
    else:
        parts = [_numbers(text, len(store)) for text in flags.episodes]
    if len(parts) != len(flags.out):
        raise UserError(f"{len(parts)} parts need as many folders, --out names {len(flags.out)}")
    with shown("split", call) as told:
        return _made(remake.split(store, dict(zip(flags.out, parts, strict=True)), told))


def _trim(flags: StoreFlags, call: Call) -> Answer:
    store = Store.open(flags.stores[0])
    drop = [i for text in flags.episodes for i in _numbers(text, len(store))]
    with shown("trim", call) as told:
        return _made([remake.trim(store, flags.out[0], flags.shorter, drop, flags.begin, flags.most, told)])


def _convert(flags: StoreFlags, call: Call) -> Answer:
    size = None if flags.shard_mb is None else flags.shard_mb * 1_000_000
    with shown("convert", call) as told:
        return _made([remake.convert(Store.open(flags.stores[0]), flags.out[0], flags.frames, size, told)])


def _export(flags: StoreFlags, call: Call) -> Answer:
    from innerworld.data.exporters import EXPORTERS, episodes_to_write, export_store

    if flags.format is None:
        raise UserError(f"say what to export with --format: {', '.join(sorted(EXPORTERS))}")
    config = override(choose("format", flags.format, EXPORTERS).config(), call.overrides)
    store = Store.open(flags.stores[0])
    with shown("export", call) as told:
        export_store(flags.format, store, flags.out[0], config, told)
    values = {"out": str(flags.out[0]), "format": flags.format, "episodes": len(episodes_to_write(store, config))}
    return Answer(values, lambda console: say(console, "{out}: {episodes} episodes as {format}".format(**values)))


ACTIONS: dict[str, Callable[[StoreFlags, Call], Answer]] = {
    "info": _info,
    "verify": _verify,
    "repair": _repair,
    "merge": _merge,
    "split": _split,
    "trim": _trim,
    "convert": _convert,
    "export": _export,
}


def _made(stores: Sequence[Store]) -> Answer:
    values = [_contents(store) for store in stores]

    def show(console: Console) -> None:
        for each in values:
            _show_contents(console, each)

    return Answer({"stores": values}, show)


@contextmanager
def shown(title: str, call: Call) -> Iterator[Callable[[int, int], None]]:
    """Progress whose total is known only when it starts."""
    told: list[Callable[[int], None]] = []
    held: list[Any] = []

    def tell(done: int, total: int) -> None:
        if not told:
            held.append(progress(title, total, call.quiet))
            told.append(held[0].__enter__())
        told[0](done)

    try:
        yield tell
    finally:
        if held:
            held[0].__exit__(None, None, None)


# ---------------------------------------------------------------------- words and numbers


def _numbers(text: str, count: int) -> list[int]:
    """0-99,120 → numbers. Raises `UserError` for what is no such list, or beyond the store."""
    found: list[int] = []
    for word in text.split(","):
        first, dash, last = word.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise UserError(f"cannot read {text!r}: write episodes as 0-99,120")
        found += range(int(first), int(last if dash else first) + 1)
    wrong = [i for i in found if i >= count]
    if wrong:
        raise UserError(f"there is no episode {wrong[0]}: the store has {count}, counted from 0")
    return found


def _contents(store: Store) -> dict[str, Any]:
    size = sum(file.stat().st_size for file in store.path.rglob("*") if file.is_file()) if store.here else None
    return {
        "store": store.name,
        "episodes": len(store),
        "transitions": store.transitions,
        "bytes": size,
        "sensors": {name: list(shape) for name, shape in store.spec.obs.items()},
        "action": store.spec.action,
        "discrete": store.spec.discrete,
    }


def _show_contents(console: Console, values: dict[str, Any]) -> None:
    size = "" if values["bytes"] is None else f", {values['bytes'] / 1e6:.1f} MB"
    say(console, f"{values['store']}: {values['episodes']} episodes, {values['transitions']} transitions{size}")


def _distribution(lengths: np.ndarray) -> dict[str, float]:
    if not len(lengths):
        return {}
    names = ("shortest", "quarter", "median", "three_quarters", "longest")
    return dict(zip(names, np.percentile(lengths, (0, 25, 50, 75, 100)).tolist(), strict=True))


def _moments(columns: dict[str, Any]) -> Iterator[list[str]]:
    for name, moments in columns.items():
        yield [name, *(_few(moments[key]) for key in ("mean", "std", "min", "max"))]


def _few(numbers: Sequence[float]) -> str:
    shown = " ".join(f"{number:.4g}" for number in numbers[:8])
    return f"{shown} ... ({len(numbers)})" if len(numbers) > 8 else shown


def _text(value: object) -> str:
    return ", ".join(f"{key} {each}" for key, each in value.items()) if isinstance(value, dict) else str(value)


DATA = Verb(StoreFlags, _run, takes_overrides=True)
