"""`merge`, `split`, `trim`, `convert`, `extend`: new stores out of old ones, which stay as they are."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from innerworld.activity import doing
from innerworld.data.store.examine import Progress
from innerworld.data.store.meta import About, Frames, Source
from innerworld.data.store.record import NO_CRC, OBS, Record, crc_of, cut, obs_dtype, repack
from innerworld.data.store.store import COMPACT_BYTES, COMPACT_EPISODES, Store
from innerworld.errors import UserError
from innerworld.types import Clip, Spec


@dataclass(frozen=True)
class Pick:
    """An episode of a store, or `length` actions of it from `start` on."""

    store: Store
    episode: int
    start: int = 0
    length: int | None = None


def merge(stores: Sequence[Store], out: str | Path, progress: Progress | None = None) -> Store:
    """One store of all episodes, in the order given. Raises `UserError` unless all are of one world.

    Images are packed as in the first; the provenance of each is kept in `meta.sources`.
    """
    first = stores[0]
    for store in stores[1:]:
        if store.spec != first.spec:
            raise UserError(f"{store.name} is of another world than {first.name}: {store.spec}, not {first.spec}")
        for name in ("action_low", "action_high"):
            if getattr(store.meta.about, name) != getattr(first.meta.about, name):
                raise UserError(f"{store.name} and {first.name} differ in {name}: the same action means another thing")
    picks = [Pick(store, i) for store in stores for i in range(len(store))]
    return remake(out, picks, _agreed([store.meta.about for store in stores]), progress=progress)


def split(
    store: Store, parts: Mapping[str, Sequence[int]] | Mapping[Path, Sequence[int]], progress: Progress | None = None
) -> list[Store]:
    """A store of its own for each list of episodes, by its folder."""
    made, total = [], sum(map(len, parts.values()))
    for out, episodes in parts.items():
        before = sum(map(len, made))
        told = None if progress is None else lambda done, _, before=before: progress(before + done, total)
        made.append(remake(out, [Pick(store, i) for i in episodes], store.meta.about, progress=told))
    return made


def shares(count: int, parts: Sequence[float], seed: int = 0) -> list[np.ndarray]:
    """Part `count` episodes by chance into shares, relative to one another. Raises `UserError` for an empty one."""
    if not parts or min(parts) <= 0:
        raise UserError(f"shares are numbers above 0, got {' '.join(map(str, parts))}")
    ends = np.round(np.cumsum(parts) / sum(parts) * count).astype(int)
    found = np.split(np.random.default_rng(seed).permutation(count), ends[:-1])
    if any(not len(each) for each in found):
        raise UserError(f"{count} episodes are too few for shares {' '.join(map(str, parts))}")
    return [np.sort(each) for each in found]


def trim(
    store: Store,
    out: str | Path,
    shorter: int = 0,
    drop: Sequence[int] = (),
    begin: int = 0,
    most: int | None = None,
    progress: Progress | None = None,
) -> Store:
    """Without the first `begin` actions of each episode and those after the next `most`; then without episodes of
    `shorter` than so many actions, and without those in `drop`. Raises `UserError` if none is left."""
    gone = set(drop)
    for i in gone:
        if not 0 <= i < len(store):
            raise UserError(f"{store.name} has no episode {i}: it has {len(store)}, counted from 0")
    picks = []
    for i, t in enumerate(store.lengths.tolist()):
        length = min(t - begin, t if most is None else most)
        if i not in gone and length >= max(1, shorter):
            picks.append(Pick(store, i, begin, length))
    if not picks:
        raise UserError(f"none of the {len(store)} episodes of {store.name} would be left: trim less")
    return remake(out, picks, store.meta.about, progress=progress)


def convert(
    store: Store,
    out: str | Path,
    frames: Frames | None = None,
    shard_bytes: int | None = None,
    progress: Progress | None = None,
) -> Store:
    """The same episodes with their images packed another way, or in shards of another size."""
    picks = [Pick(store, i) for i in range(len(store))]
    return remake(out, picks, store.meta.about, frames, shard_bytes, progress)


def remake(
    out: str | Path,
    picks: Sequence[Pick],
    about: About,
    frames: Frames | None = None,
    shard_bytes: int | None = None,
    progress: Progress | None = None,
) -> Store:
    """Copy episodes into a new store, all or nothing: it is made beside `out` and renamed at the end.

    Raises `UserError` if `out` has content, for an episode that is damaged, and for a full disk.
    """
    if not picks:
        raise UserError(f"there is no episode to put into {out}")
    first = picks[0].store
    packing = frames or first.meta.frames
    with doing(f"writing {out}"), _beside(Path(out), first.spec, about, packing, _sources(picks)) as store:
        _write(store, (_taken(pick, packing) for pick in picks), len(picks), shard_bytes, progress)
    return Store.open(out)


def extend(
    store: Store,
    out: str | Path,
    shapes: Mapping[str, tuple[int, ...]],
    derive: Callable[[Clip], Mapping[str, Tensor]],
    about: About,
    progress: Progress | None = None,
) -> Store:
    """The same episodes with more sensors, of these `shapes`: `derive` makes them (`1 t+1 ...`) out of each episode.

    All or nothing. Raises `UserError` if `out` has content, for a sensor that the store has, an episode that is
    damaged, what is derived and is not finite, and a full disk.
    """
    for sensor in shapes:
        if sensor in store.spec.obs:
            raise UserError(f"{store.name} has a sensor {sensor!r} already")
    spec = replace(store.spec, obs={**store.spec.obs, **shapes})
    picks = [Pick(store, i) for i in range(len(store))]
    if not picks:
        raise UserError(f"there is no episode to put into {out}")

    def longer(pick: Pick) -> Record:
        record = _taken(pick, store.meta.frames)
        more = {}
        for sensor, value in derive(store.episode(pick.episode)).items():
            rows = value[0].cpu().numpy().astype(obs_dtype(shapes[sensor]))
            if rows.shape != (record.length + 1, *shapes[sensor]) or not np.isfinite(rows).all():
                raise UserError(
                    f"{store.name}: {sensor!r} of episode {pick.episode} cannot be kept: not finite, or odd"
                )
            more[OBS + sensor] = rows
        payload = {**record.payload, **more}
        return Record(payload, record.ends, record.length, record.seed, crc_of(payload))

    with doing(f"writing {out}"), _beside(Path(out), spec, about, store.meta.frames, _sources(picks)) as made:
        _write(made, map(longer, picks), len(picks), None, progress)
    return Store.open(out)


def _write(
    store: Store, records: Iterable[Record], total: int, shard_bytes: int | None, progress: Progress | None
) -> None:
    """Add them by shards that are large enough."""
    most = COMPACT_EPISODES if shard_bytes is None else None
    gathered: list[Record] = []
    size = 0
    for done, record in enumerate(records, 1):
        gathered.append(record)
        size += record.bytes
        if size >= (shard_bytes or COMPACT_BYTES) or len(gathered) == most or done == total:
            store.add_records(gathered)
            gathered, size = [], 0
        if progress is not None:
            progress(done, total)


def _taken(pick: Pick, frames: Frames) -> Record:
    """One episode, checked: what is written anew gets a new checksum, which must not hide that it was damaged."""
    store, name = pick.store, f"{pick.store.name}: episode {pick.episode}"
    record = store.record(pick.episode)
    now = crc_of(record.payload)
    if record.crc not in (NO_CRC, now):
        raise UserError(f"{name} is damaged: find out more with innerworld data verify {store.name}")
    record = Record(record.payload, record.ends, record.length, record.seed, now)
    if pick.start or pick.length not in (None, record.length):
        record = cut(record, pick.start, record.length - pick.start if pick.length is None else pick.length)
    return repack(record, store.spec, store.meta.frames, frames, name)


@contextmanager
def _beside(out: Path, spec: Spec, about: About, frames: Frames, sources: tuple[Source, ...]) -> Iterator[Store]:
    """A store in a folder beside `out` that gets its name when all went well, and goes when not."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists already: choose another folder")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{out.name[:100]}.", suffix=".partial", dir=out.parent))
    except OSError as error:
        raise UserError(f"cannot make the folder {out}: {error.strerror}") from error
    try:
        with (store := Store.create(partial, spec, about, frames, sources)).writing():
            yield store
        for leftover in partial.glob(".lock*"):
            leftover.unlink()
        partial.chmod(0o755)  # mkdtemp shuts everybody else out
        partial.replace(out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _sources(picks: Sequence[Pick]) -> tuple[Source, ...]:
    """Where the episodes come from, in order. A source that was made of sources stands for itself."""
    found: dict[str, tuple[Store, int]] = {}
    for pick in picks:
        count = found[pick.store.name][1] if pick.store.name in found else 0
        found[pick.store.name] = (pick.store, count + 1)
    return tuple(
        Source(name=Path(name).name, episodes=count, about=store.meta.about, made=store.meta.made)
        for name, (store, count) in found.items()
    )


def _agreed(abouts: Sequence[About]) -> About:
    """What all say; a field in which they differ is left as if nothing were known."""
    values = [about.model_dump() for about in abouts]
    return About(**{key: value for key, value in values[0].items() if all(each[key] == value for each in values)})
