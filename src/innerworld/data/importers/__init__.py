"""The logs there are importers for. To add one: write its file (a config, and how it opens), add its line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from innerworld.data.importers import hdf5, lerobot, minari, npz, replay, rlds, video
from innerworld.data.importers.bring import OnBad, bring_in
from innerworld.data.importers.recording import Episode, ImportConfig, Recording, Take
from innerworld.data.store.meta import Frames
from innerworld.data.store.store import Store
from innerworld.errors import UserError, choose

__all__ = [
    "IMPORTERS",
    "Episode",
    "ImportConfig",
    "Importer",
    "Recording",
    "Take",
    "bring_in",
    "guess",
    "import_log",
]


@dataclass(frozen=True)
class Importer:
    """One kind of log."""

    about: str
    config: type[ImportConfig]
    open: Callable[[Path, Any], Recording]  # given its config
    looks: Callable[[Path], bool]  # whether a path is of this kind, at a glance; it exists


IMPORTERS: dict[str, Importer] = {
    "pusht": Importer(
        "the human Push-T demonstrations of Diffusion Policy (.zarr)",
        replay.PushTConfig,
        replay.open_pusht,
        lambda path: replay.looks_like_replay(path) and path.name.startswith("pusht_cchi"),
    ),
    "zarr": Importer(
        "a replay as Diffusion Policy writes them: Zarr v2 with data/* and meta/episode_ends",
        replay.ReplayConfig,
        replay.open_replay,
        replay.looks_like_replay,
    ),
    "lerobot": Importer(
        "a LeRobot data set of version 2.0, 2.1 or 3.0",
        lerobot.LeRobotConfig,
        lerobot.open_lerobot,
        lerobot.looks_like_lerobot,
    ),
    "minari": Importer("a Minari data set (HDF5)", minari.MinariConfig, minari.open_minari, minari.looks_like_minari),
    "hdf5": Importer(
        "HDF5 of D4RL (flat), robomimic (data/demo_0) or stable-worldmodel (ep_len)",
        hdf5.Hdf5Config,
        hdf5.open_hdf5,
        hdf5.looks_like_hdf5,
    ),
    "rlds": Importer("RLDS: TFRecord files with features.json", rlds.RldsConfig, rlds.open_rlds, rlds.looks_like_rlds),
    "npz": Importer(
        "NumPy archives: one per episode, or one of many (OGBench: ends=terminals)",
        npz.NpzConfig,
        npz.open_npz,
        npz.looks_like_npz,
    ),
    "video": Importer(
        "a folder of videos, or of folders of pictures, with or without a table of actions",
        video.VideoConfig,
        video.open_video,
        video.looks_like_video,
    ),
}


def guess(path: Path) -> str:
    """The kind of log that `path` looks like. Raises `UserError` if it looks like none."""
    if not path.exists():
        raise UserError(f"there is no {path}")
    for kind, importer in IMPORTERS.items():
        if importer.looks(path):
            return kind
    raise UserError(f"{path} looks like no log that can be imported: say which of {', '.join(IMPORTERS)} it is")


def import_log(
    kind: str,
    path: str | Path,
    out: str | Path,
    config: ImportConfig | None = None,
    on_bad: OnBad = "stop",
    progress: Callable[[int, int], None] = lambda done, total: None,
    frames: Frames = "raw",
) -> tuple[Store, list[str]]:
    """Import a log of one of the `IMPORTERS`: the new store in `out`, and what was left out (see `bring_in`).

    `config` is that importer's own; without, its defaults. Raises `UserError` that names the file and the episode.
    """
    importer = choose("kind of log", kind, IMPORTERS)
    config = importer.config() if config is None else config
    if not isinstance(config, importer.config):
        raise UserError(f"{kind} takes a {importer.config.__name__}, not a {type(config).__name__}")
    path = Path(path)
    if not path.exists():
        raise UserError(f"there is no {path}")
    recording = importer.open(path, config)
    total = len(recording.episodes[: config.limit])
    return bring_in(recording, out, config, on_bad, lambda done: progress(done, total), frames)
