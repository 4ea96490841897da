"""Trackers beside the file: TensorBoard, trackio, Weights & Biases. One that fails is dropped, training goes on."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any, Protocol

from innerworld.errors import UserError, choose
from innerworld.log.log import Log, Row, silent, tee

PROJECT = "innerworld"
logger = logging.getLogger(__name__)


class Tracked(Protocol):
    """A run that is open in a tracker."""

    def add(self, step: int, row: dict[str, float]) -> None: ...
    def close(self) -> None: ...


Open = Callable[[Path, Mapping[str, Any], str, int], Tracked]
"""(folder of the run, its configuration, an id that lasts, first step that will come) → the run, new or continued."""


@contextmanager
def tracker(names: Sequence[str], folder: Path | str, config: Mapping[str, Any]) -> Iterator[Log]:
    """A log that reports to each of the named `TRACKERS`; a resumed run goes on in theirs, and no step comes twice.

    Raises `UserError` for an unknown name or a missing package. What fails later is warned of once and left alone.
    """
    for name in names:
        choose("tracker", name, TRACKERS)
        if any(find_spec(module) is None for module in NEEDS[name]):
            extra = "trackio" if name == "trackio" else "track"
            raise UserError(f'tracker {name} needs a package that is not installed: pip install "innerworld[{extra}]"')
    logs = [_Guarded(name, TRACKERS[name], Path(folder), config) for name in dict.fromkeys(names)]
    try:
        yield tee(*logs) if logs else silent
    finally:
        for log in logs:
            log.close()


class _Guarded:
    """One tracker: opened at the first row, when it is known where the run goes on; its errors stop here.

    TensorBoard can take steps back, the others cannot: the last step that they were given is noted in the run's folder,
    before it is given, and what a resumed run measures again is not sent again.
    """

    def __init__(self, name: str, begin: Open, folder: Path, config: Mapping[str, Any]) -> None:
        self.name, self._begin, self._folder, self._config = name, begin, folder, config
        self._note = folder / f"track-{name}.json"
        self._run: Tracked | None = None
        self._id, self._last = "", -1
        self._failed = False

    def __call__(self, step: int, row: Row) -> None:
        if not row or self._failed:
            return
        try:
            run = self._run or self._open(step)
            if step > self._last or self.name in REWINDS:
                self._last = step
                self._write_note()
                run.add(step, dict(row))
        except Exception as error:
            self._give_up(error)

    def close(self) -> None:
        if self._run is not None and not self._failed:
            try:
                self._run.close()
            except Exception as error:
                self._give_up(error)

    def _open(self, step: int) -> Tracked:
        noted = self._read_note() if step > 0 else {}
        self._id, self._last = str(noted.get("id") or uuid.uuid4().hex[:12]), int(noted.get("step", -1))
        self._run = self._begin(self._folder, self._config, self._id, step)
        return self._run

    def _read_note(self) -> dict[str, Any]:
        try:
            noted = json.loads(self._note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}  # then it is a new run there
        return noted if isinstance(noted, dict) else {}

    def _write_note(self) -> None:
        temporary = self._note.with_name(self._note.name + ".tmp")
        temporary.write_text(json.dumps({"id": self._id, "step": self._last}), encoding="utf-8")
        temporary.replace(self._note)

    def _give_up(self, error: Exception) -> None:
        self._failed = True
        what = " ".join(f"{type(error).__name__}: {error}".split())
        logger.warning("tracker %s failed (%s): training goes on without it", self.name, what)


# ---------------------------------------------------------------------- the trackers


class _TensorBoard:
    """Into the folder `tensorboard` of the run; its own `purge_step` hides what a resumed run measures again."""

    def __init__(self, folder: Path, config: Mapping[str, Any], id: str, first: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=first, flush_secs=10)
        self._writer.add_text("lesson", f"```json\n{json.dumps(config, indent=2, default=str)}\n```", first)

    def add(self, step: int, row: dict[str, float]) -> None:
        for name, value in row.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _Trackio:
    """Into trackio's own folder on this machine; `TRACKIO_DIR` moves it."""

    def __init__(self, folder: Path, config: Mapping[str, Any], id: str, first: int) -> None:
        # By name: its names differ from release to release, and type checkers need not have it.
        self._module: Any = import_module("trackio")
        with redirect_stdout(StringIO()):  # it says where its files are, in the middle of our line
            self._module.init(
                project=PROJECT, name=f"{folder.name}-{id}", config=dict(config), resume="allow", embed=False
            )

    def add(self, step: int, row: dict[str, float]) -> None:
        self._module.log(row, step=step)

    def close(self) -> None:
        with redirect_stdout(StringIO()):
            self._module.finish()


class _WandB:
    """Into the folder `wandb` of the run; `WANDB_MODE=offline` keeps it on this machine until `wandb sync`."""

    def __init__(self, folder: Path, config: Mapping[str, Any], id: str, first: int) -> None:
        import wandb  # pyright: ignore[reportMissingImports]  (an extra)

        settings = wandb.Settings(init_timeout=30, silent=True, console="off")
        self._run = wandb.init(
            project=PROJECT,
            name=folder.name,
            id=id,
            dir=str(folder),
            config=dict(config),
            resume="allow",
            settings=settings,
        )

    def add(self, step: int, row: dict[str, float]) -> None:
        self._run.log(row, step=step)

    def close(self) -> None:
        self._run.finish()


TRACKERS: dict[str, Open] = {"tensorboard": _TensorBoard, "trackio": _Trackio, "wandb": _WandB}
NEEDS = {"tensorboard": ("tensorboard",), "trackio": ("trackio", "gradio_client"), "wandb": ("wandb",)}
REWINDS = ("tensorboard",)
