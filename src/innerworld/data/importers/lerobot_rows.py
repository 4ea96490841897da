"""The rows and the frames of one episode of a LeRobot dataset; each frame is found by its time and checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from innerworld.data.importers.fit import picture
from innerworld.data.importers.inside import check_room, inside
from innerworld.data.importers.lerobot_meta import Dataset, Feature, Place, Stretch
from innerworld.data.importers.parquet import numbers, read_parquet
from innerworld.data.importers.picture import decode
from innerworld.data.importers.recording import Take
from innerworld.data.video import Video
from innerworld.errors import UserError

if TYPE_CHECKING:
    import pyarrow

    from innerworld.data.importers.lerobot import LeRobotConfig

CHUNK = 32
"""Frames decoded at once, before they are shrunk."""

RATES_DIFFER = 0.05

Read = Callable[[slice], np.ndarray]


class Reader:
    """Reads episodes of one dataset as one import wants them."""

    def __init__(self, dataset: Dataset, action: str, config: LeRobotConfig) -> None:
        self.dataset = dataset
        self.action = action if action in dataset.features else None
        self.config = config

    def read(self, place: Place) -> Take:
        """One episode. Raises `UserError`: missing files, rows or frames of another episode, damage."""
        if place.fault:
            raise UserError(f"{self.dataset.root}/meta: {place.fault}")
        wanted = self._sensors()
        columns = [f.key for f in wanted if f.kind != "video"] + ([self.action] if self.action else [])
        columns += [name for name in ("next.reward", "next.done") if name in self.dataset.features]
        table = self._rows(place, [*columns, *(["task_index"] if self._tells_tasks() else [])])
        times = self._times(place, table)
        k = self.config.rows_per_frame
        rows = np.arange(0, len(times), k)
        obs = {}
        for feature in wanted:
            if feature.kind == "video":
                obs[feature.sensor] = self._frames(feature, place.videos[feature.key], times[rows], place)
            elif feature.kind == "image":
                obs[feature.sensor] = self._pictures(feature, place, table, rows)
            else:
                obs[feature.sensor] = self._column(place, table, feature.key)[rows].reshape(len(rows), -1)
        if self._tells_tasks():
            obs["task"] = self._column(place, table, "task_index")[rows].reshape(-1, 1).astype(np.float32)
        t = len(rows) - 1  # what came of the last action was not recorded
        action = None if self.action is None else self._joined(self._column(place, table, self.action)[: t * k], t)
        reward = self._scalar(place, table, "next.reward", t * k)
        done = self._scalar(place, table, "next.done", t * k)
        return Take(
            obs,
            action,
            None if reward is None else reward.astype(np.float64).reshape(t, k).sum(1),
            None if done is None else np.asarray(done.astype(np.bool_).reshape(t, k).any(1)),
            place.seed,
        )

    def actions(self, place: Place) -> np.ndarray | None:
        """All actions of an episode, one a row: `t a`."""
        if self.action is None:
            return None
        value = self._column(place, self._rows(place, [self.action]), self.action)
        return value.reshape(len(value), -1)

    def _sensors(self) -> list[Feature]:
        known = self.dataset.sensors()
        if self.config.sensors is None:
            return list(known.values())
        return [known[name] for name in self.config.sensors if name in known]

    def _tells_tasks(self) -> bool:
        several = len(self.dataset.tasks) > 1
        return several and (self.config.sensors is None or "task" in self.config.sensors)

    # ------------------------------------------------------------------ the table

    def _rows(self, place: Place, columns: list[str]) -> pyarrow.Table:
        always = ["episode_index", "frame_index", "timestamp"]
        path = inside(self.dataset.root, place.table, self.config.follow_links)
        most = max(self.config.most_bytes, 4 * path.stat().st_size if path.is_file() else 0)
        where = ("episode_index", place.index)
        return read_parquet(path, list(dict.fromkeys([*always, *columns])), where=where, most=most)

    def _times(self, place: Place, table: pyarrow.Table) -> np.ndarray:
        """Seconds of each row since the episode began: `t`. Rows must be all there, in order, and on time."""
        if table.num_rows != place.length:
            raise UserError(f"{place.table} has {table.num_rows} rows of episode {place.index}, not {place.length}")
        if table.num_rows < 2:
            raise UserError(f"episode {place.index} has {table.num_rows} rows: at least 2 are needed")
        frame = self._column(place, table, "frame_index").reshape(-1)
        if not np.array_equal(frame, np.arange(len(frame))):
            row = int((frame != np.arange(len(frame))).argmax())
            raise UserError(f"{place.table}: row {row} of episode {place.index} has frame_index {frame[row]}")
        times = self._column(place, table, "timestamp").reshape(-1).astype(np.float64)
        on_time = np.abs(times - frame / self.dataset.fps) <= 0.5 / self.dataset.fps
        if not on_time.all():
            row = int((~on_time).argmax())
            raise UserError(
                f"{place.table}: row {row} of episode {place.index} is at {times[row]:.6g} s, expected "
                f"{row / self.dataset.fps:.6g} s at {self.dataset.fps:g} rows a second"
            )
        return times

    def _column(self, place: Place, table: pyarrow.Table, name: str) -> np.ndarray:
        value = numbers(self.dataset.root / place.table, name, table[name])
        expected = self.dataset.features[name].shape if name in self.dataset.features else (1,)
        if value.shape[1:] not in (expected, () if expected == (1,) else expected):
            raise UserError(f"{place.table}: {name} has shape {value.shape[1:]}, info.json says {expected}")
        return value

    def _scalar(self, place: Place, table: pyarrow.Table, name: str, rows: int) -> np.ndarray | None:
        if name not in self.dataset.features:
            return None
        value = self._column(place, table, name)
        if value.size != len(value):
            raise UserError(f"{place.table}: {name} has shape {value.shape}, expected one number a row")
        return value.reshape(-1)[:rows]

    def _joined(self, action: np.ndarray, t: int) -> np.ndarray:
        """The actions between one frame and the next, as one: `t a`."""
        k = self.config.rows_per_frame
        if action.dtype.kind in "iu" and k == 1:
            return action.reshape(t, -1)
        blocks = action.astype(np.float64).reshape(t, k, -1)
        return blocks.sum(1) if self.config.actions == "sum" else blocks.reshape(t, -1)

    # ------------------------------------------------------------------ pictures

    def _frames(self, feature: Feature, stretch: Stretch, times: np.ndarray, place: Place) -> np.ndarray:
        """The frames of these times, each another, none of them of another episode: `t y x c`."""
        path = inside(self.dataset.root, stretch.file, self.config.follow_links)
        video = Video(path, "av")  # the one that notices damage
        self._check_rate(video)
        _check_end(video, stretch)
        own = video.times >= stretch.start - 0.49 * video.interval
        if stretch.stop is not None:
            own &= video.times < stretch.stop - 0.49 * video.interval
        elif own.sum() != len(times):
            raise UserError(f"{path} has {own.sum()} frames for {len(times)} rows of episode {place.index}")
        chosen = video.nearest(stretch.start + times, self.config.tolerance)
        if not own[chosen].all():
            raise UserError(f"{path}: row {int((~own[chosen]).argmax())} would get a frame of another episode")
        if np.diff(chosen).min() < 1:
            row = int(np.diff(chosen).argmin())
            raise UserError(f"{path}: frame {chosen[row]} would be that of rows {row} and {row + 1}")
        return self._gathered(feature, len(chosen), video.size, lambda at: video.frames(chosen[at]))

    def _check_rate(self, video: Video) -> None:
        ratio = self.dataset.fps / video.fps if video.fps else 1.0
        k = self.config.rows_per_frame
        if abs(ratio / k - 1) > RATES_DIFFER:
            advice = f"rows_per_frame={round(ratio)}" if ratio > 1 and abs(ratio - round(ratio)) < 0.1 else "recode it"
            raise UserError(
                f"{video.path} has {video.fps:.4g} frames a second, the table {self.dataset.fps:g} rows: {advice}"
            )

    def _pictures(self, feature: Feature, place: Place, table: pyarrow.Table, rows: np.ndarray) -> np.ndarray:
        """Pictures that lie encoded in the table: `t y x c`."""
        column = table[feature.key]
        size, channels = _picture_shape(feature)

        def decoded(at: slice) -> np.ndarray:
            cells = column.take(rows[at]).to_pylist()
            raw = [cell.get("bytes") if isinstance(cell, dict) else cell for cell in cells]
            if not all(isinstance(each, bytes) for each in raw):
                raise UserError(f"{place.table}: {feature.key} holds no encoded pictures")
            pictures = [decode(each, channels, max(2 * size[0] * size[1], 1)) for each in raw if each]
            if len(pictures) != len(raw) or any(each.shape[:2] != size for each in pictures):
                raise UserError(f"{place.table}: pictures of {feature.key} are not all {size[1]} x {size[0]}")
            return np.stack(pictures)

        return self._gathered(feature, len(rows), size, decoded, channels)

    def _gathered(self, feature: Feature, t: int, size: tuple[int, int], read: Read, channels: int = 3) -> np.ndarray:
        """Shrink as we go: an episode of large pictures need not fit into memory."""
        side = self.config.size
        shape = (t, *size, channels) if side is None else (t, side, side, channels)
        check_room(feature.key, shape, 1, self.config.most_bytes)
        out = np.empty(shape, np.uint8)
        for start in range(0, t, CHUNK):
            at = slice(start, min(start + CHUNK, t))
            out[at] = picture(feature.sensor, read(at), self.config)
        return out


def _check_end(video: Video, stretch: Stretch) -> None:
    """A file that lost an episode in its middle is too short, and all that follows has moved."""
    end = video.times[-1] + video.interval
    if stretch.last is not None and not video.index.cut and end < stretch.last - 0.51 * video.interval:
        raise UserError(
            f"{video.path} lasts {end:.6g} s, its episodes {stretch.last:.6g} s: which frames are whose is not known"
        )


def _picture_shape(feature: Feature) -> tuple[tuple[int, int], int]:
    """`y x`, and c: the table says c y x or y x c."""
    shape = feature.shape
    if len(shape) == 3 and shape[2] in (1, 3, 4):
        return (shape[0], shape[1]), shape[2]
    if len(shape) == 3 and shape[0] in (1, 3, 4):
        return (shape[1], shape[2]), shape[0]
    raise UserError(f"{feature.key} has shape {shape}, expected pictures (y, x, c)")
