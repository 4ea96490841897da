"""Export to NumPy archives, one per episode, as `import npz` reads them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np

from innerworld.data.exporters.begun import begin
from innerworld.data.exporters.config import ExportConfig, Played, episodes_to_write, played, spec_to_write
from innerworld.data.store.store import Store
from innerworld.disk import write_atomic
from innerworld.errors import UserError
from innerworld.lock import lock

RESERVED = ("action", "reward", "terminated")


def write_npz(store: Store, out: Path, config: ExportConfig, progress: Callable[[int], None]) -> None:
    """`000000.npz`, ...: `action` (t a, or t whole numbers), `reward` and `terminated` (t), and every sensor (t+1 ...).

    Raises `UserError` for a sensor of one of these names.
    """
    spec, chosen = spec_to_write(store, config), episodes_to_write(store, config)
    for name in RESERVED:
        if name in spec.obs:
            raise UserError(f"a sensor {name!r} would be taken for the {name}: leave it out with sensors=")
    with lock(out, "export"):
        begin(store, out, config, "export.json", {})
        for done, i in enumerate(chosen):
            file = out / f"{done:06d}.npz"
            if not file.exists():
                write_atomic(file, [_archive(played(store, i, spec, config))])
            progress(done + 1)


def _archive(episode: Played) -> bytes:
    arrays = {**episode.obs, "reward": episode.reward, "terminated": episode.terminated}
    if episode.action is not None:
        arrays["action"] = episode.action
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()
