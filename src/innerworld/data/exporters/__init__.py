"""The formats a store can be exported to. To add one: write its file (a config, and how it writes), add its line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from innerworld.data.exporters import lerobot, npz, video
from innerworld.data.exporters.config import ExportConfig, episodes_to_write
from innerworld.data.store.store import Store
from innerworld.errors import UserError, choose

__all__ = ["EXPORTERS", "ExportConfig", "Exporter", "episodes_to_write", "export_store"]

Progress = Callable[[int], None]
"""Told how many episodes are written."""


@dataclass(frozen=True)
class Exporter:
    """One format."""

    about: str
    config: type[ExportConfig]
    write: Callable[[Store, Path, Any, Progress], None]  # given its config; goes on with an export that was killed


EXPORTERS: dict[str, Exporter] = {
    "lerobot": Exporter(
        "LeRobotDataset v3.0: Parquet and fragmented MP4, a file for each episode",
        lerobot.LeRobotExport,
        lerobot.write_lerobot,
    ),
    "npz": Exporter("NumPy archives, one per episode", ExportConfig, npz.write_npz),
    "video": Exporter(
        "a video per episode and camera, with a Parquet table of actions", video.VideoExport, video.write_video
    ),
}


def export_store(
    kind: str,
    store: Store,
    out: str | Path,
    config: ExportConfig | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write a store to the folder `out` as one of `EXPORTERS`; `progress` is told how many episodes are done, of all.

    Every episode is committed by a rename. An export that was killed is gone on with by the same call. Raises
    `UserError` for what the format cannot hold, a folder with other content, and a full disk.
    """
    exporter = choose("format", kind, EXPORTERS)
    config = exporter.config() if config is None else config
    if not isinstance(config, exporter.config):
        raise UserError(f"{kind} takes a {exporter.config.__name__}, not a {type(config).__name__}")
    total = len(episodes_to_write(store, config))
    exporter.write(store, Path(out), config, lambda done: progress(done, total))
