"""Export to films: a video per episode and camera, beside them a table of actions, as `import video` reads them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydantic import Field

from innerworld.data.exporters.begun import begin
from innerworld.data.exporters.config import ExportConfig, Played, episodes_to_write, played, spec_to_write
from innerworld.data.exporters.tables import lists, write_parquet
from innerworld.data.store.store import Store
from innerworld.data.video.writer import Codec, VideoWriter
from innerworld.disk import sync
from innerworld.errors import UserError
from innerworld.lock import lock
from innerworld.types import Spec

PIXELS = "pixels"
FPS = 10.0


class FilmConfig(ExportConfig):
    """How films are coded."""

    fps: float | None = Field(default=None, gt=0, description="frames per second; null: as the store says, else 10")
    codec: Codec = Field(default="h264", description="h264, lossless (H.264 in RGB, bit for bit) or av1")
    gop: int = Field(default=16, ge=1, description="frames from one keyframe to the next")
    quality: int | None = Field(default=None, ge=0, le=63, description="0 (best) to 51, for av1 to 63; null: usual")


class VideoExport(FilmConfig):
    """Videos with tables."""


def write_video(store: Store, out: Path, config: VideoExport, progress: Callable[[int], None]) -> None:
    """`000000.mp4` (or `000000.CAMERA.mp4` for each of several), and `000000.parquet` with a row for each frame.

    The last row has no action. Raises `UserError` for a store without images, and for images that are not RGB or grey.
    """
    spec, chosen = spec_to_write(store, config), episodes_to_write(store, config)
    cameras = check_cameras(spec)
    if not cameras:
        raise UserError(f"{store.name} has no images to make a video of: {', '.join(spec.obs)}")
    with lock(out, "export"):
        begin(store, out, config, "export.json", {})
        for done, i in enumerate(chosen):
            table = out / f"{done:06d}.parquet"
            if not table.exists():
                episode = played(store, i, spec, config)
                for camera in cameras:
                    name = f"{done:06d}.mp4" if cameras == [PIXELS] else f"{done:06d}.{camera}.mp4"
                    write_film(out / name, episode.obs[camera], fps_of(store, config), config)
                write_parquet(table, _columns(episode, spec))  # last: the episode is complete
            progress(done + 1)


def check_cameras(spec: Spec) -> list[str]:
    """The sensors that are images. Raises `UserError` for one that no video can hold or no file be named after."""
    for name in spec.images():
        if spec.obs[name][2] == 4:
            raise UserError(f"sensor {name!r} has 4 channels, a video has 3: leave it out with sensors=")
        if "/" in name or "\\" in name or name.startswith("."):
            raise UserError(f"sensor {name!r} cannot be the name of a file: leave it out with sensors=")
    return spec.images()


def fps_of(store: Store, config: FilmConfig) -> float:
    return config.fps or store.meta.about.fps or FPS


def write_film(path: Path, frames: np.ndarray, fps: float, config: FilmConfig) -> None:
    """Write a video under another name, and rename it when the disk has it."""
    temporary = path.with_name(path.name + ".tmp")
    with VideoWriter(temporary, fps, config.codec, config.gop, config.quality) as writer:
        for frame in frames:
            writer.add(frame)
    os.replace(temporary, path)
    sync(path.parent)


def _columns(episode: Played, spec: Spec) -> dict:
    ended = np.append(episode.terminated, False)
    columns = {name: lists(episode.obs[name]) for name in spec.vectors()}
    columns |= {"reward": np.append(episode.reward, np.float32(0)), "terminated": ended}
    if episode.action is None:
        return columns
    if episode.action.ndim == 1:
        return {"action": np.append(episode.action, 0), **columns}
    nothing = np.full((1, episode.action.shape[1]), np.nan, np.float32)
    return {"action": lists(np.concatenate([episode.action, nothing])), **columns}
