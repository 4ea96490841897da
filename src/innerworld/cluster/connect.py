"""`connect`: from what a flag says to a `Place`."""

from __future__ import annotations

import os

from innerworld.cluster.local import Local
from innerworld.cluster.on_ray import Ray
from innerworld.cluster.place import Place
from innerworld.errors import UserError, nearest


def connect(where: str = "local", workers: int | None = None, threads: int = 1, gpus: float = 0.0) -> Place:
    """The place that a flag names: `local`, `ray` (the cluster that runs here, else a new one), or Ray's address.

    An address is `ray://HOST:10001` (from anywhere) or `HOST:6379` (from a machine of the cluster). Raises `UserError`.
    """
    if workers is not None and workers < 1:
        raise UserError(f"--workers is at least 1, got {workers}")
    if where == "local":
        return Local(workers or os.cpu_count() or 1, threads)
    if where == "ray" or ":" in where:
        return Ray(None if where == "ray" else where, workers, threads, gpus)
    raise UserError(f"unknown cluster {where!r}.{nearest(where, ['local', 'ray'])} Known: local, ray, ray://HOST:10001")
