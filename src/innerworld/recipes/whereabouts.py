"""The folders that a run names, kept as seen from its own: all can be moved together, and used from anywhere."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from innerworld.config import Config

FOLDERS = ("data", "init_from")
C = TypeVar("C", bound=Config)


def seen_from(settings: C, folder: Path) -> C:
    """With the ways to its folders from `folder`, as `run.json` keeps them."""
    return _turned(settings, lambda path: os.path.relpath(path, folder))


def found_from(settings: C, folder: Path) -> C:
    """With its folders found again, where `seen_from` kept them."""
    return _turned(settings, lambda path: os.path.normpath(folder / path))


def absolute(settings: C) -> C:
    """With whole paths, which tell whether two folders are the same."""
    return _turned(settings, os.path.abspath)


def _turned(settings: C, turn: Callable[[str], str]) -> C:
    named = {name: getattr(settings, name, "") for name in FOLDERS}
    return settings.model_copy(update={name: turn(path) for name, path in named.items() if path})
