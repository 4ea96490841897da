"""`bring_in`: write the episodes of a `Recording` to a store, all of them or none, and say which were left out."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from innerworld.data.importers.fit import Fit
from innerworld.data.importers.recording import Bounds, Episode, ImportConfig, Recording
from innerworld.data.store.check import check_episode
from innerworld.data.store.meta import Frames
from innerworld.data.store.store import Store
from innerworld.data.store.writer import Writer
from innerworld.errors import UserError
from innerworld.types import Clip

OnBad = Literal["stop", "skip"]


def bring_in(
    recording: Recording,
    out: str | Path,
    config: ImportConfig,
    on_bad: OnBad = "stop",
    progress: Callable[[int], None] = lambda done: None,
    frames: Frames = "raw",
) -> tuple[Store, list[str]]:
    """Write a recording to a new store in `out`: the store, and what was left out, a line for each episode.

    The first episode that can be read says what the world is like. A bad one stops the import with a `UserError` that
    names it, or is left out with `on_bad="skip"`. Nothing stays of an import that fails: it goes into a folder beside
    `out`, which is renamed at the end. `progress` is told how many episodes are done; `frames` is how the store packs
    its pictures.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists already: choose another folder")
    episodes = recording.episodes[: config.limit]
    if not episodes:
        raise UserError("the log has no episodes")
    fit = Fit.to(recording, config)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
    except OSError as error:
        raise UserError(f"cannot make the folder {out}: {error.strerror}") from error
    try:
        skipped = _write(beside, recording, fit, episodes, on_bad, progress, frames)
        beside.chmod(0o755)  # mkdtemp shuts everybody else out
        beside.replace(out)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    return Store.open(out), skipped


def _write(
    folder: Path,
    recording: Recording,
    fit: Fit,
    episodes: Sequence[Episode],
    on_bad: OnBad,
    progress: Callable[[int], None],
    frames: Frames,
) -> list[str]:
    skipped: list[str] = []
    writer: Writer | None = None
    try:
        for done, episode in enumerate(episodes, start=1):
            try:
                clip, seed = _read(episode, fit, None if writer is None else writer.store)
            except UserError as error:
                if on_bad == "stop":
                    raise UserError(f"{episode.name}: {error}") from error
                skipped.append(f"{episode.name}: {error}")
            else:
                if writer is None:
                    spec = fit.spec(clip)
                    writer = Writer(Store.create(folder, spec, fit.about(recording.about, spec.action), frames))
                writer.add(clip, seed)
            progress(done)
    finally:
        if writer is not None:
            writer.flush()
    if writer is None:
        raise UserError(f"none of the {len(episodes)} episodes can be imported, the first because {skipped[0]}")
    return skipped


def _read(episode: Episode, fit: Fit, store: Store | None) -> tuple[Clip, int | None]:
    take = episode.read()
    clip = fit(take)
    check_episode(fit.spec(clip) if store is None else store.spec, clip)
    return clip, take.seed


def measured(actions: Iterable[Callable[[], np.ndarray | None]]) -> Bounds:
    """The bounds of actions `t a` that no log declares; -1 and 1 where all lie between.

    What cannot be read is passed over: reading that episode will say why. So is what is not finite.
    """
    low = high = np.zeros(0)
    for read in actions:
        try:
            value = read()
        except UserError:
            continue
        if value is None or value.ndim != 2 or not value.size or value.dtype.kind not in "fiub":
            continue
        value = value[np.isfinite(value).all(1)].astype(np.float64)
        if len(value) and not len(low):
            low, high = value.min(0), value.max(0)
        elif len(value) and value.shape[1] == len(low):
            low, high = np.minimum(low, value.min(0)), np.maximum(high, value.max(0))
    if not len(low) or (low.min() >= -1 and high.max() <= 1):
        return -np.ones(1), np.ones(1)
    return low, high
