"""`inside`: a path that a log names, made sure to lie in the log's own folder; and room for what a file declares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

from innerworld.errors import UserError


def inside(root: Path, name: str | Path, follow_links: bool = False) -> Path:
    """`root / name`. Raises `UserError` for an absolute path, one with `..`, and a link that leaves `root`.

    A link may leave it with `follow_links`: some download caches keep every file elsewhere.
    """
    text = str(name)
    for kind in (PurePosixPath, PureWindowsPath):
        if "\0" in text or kind(text).is_absolute() or kind(text).drive or ".." in kind(text).parts:
            raise UserError(f"{root} names the file {text!r}, which is outside of it")
    path = root / text
    try:
        leaves = not follow_links and not path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError) as error:  # a circle of links, a name too long
        raise UserError(f"{path} cannot be followed: {error}") from error
    if leaves:
        raise UserError(f"{path} is a link to a file outside of {root}: follow_links=true if it is yours")
    return path


def check_room(name: str, shape: Sequence[int], item_bytes: int, most: int) -> int:
    """The bytes of an array that a file declares. Raises `UserError` if they are more than `most`.

    What a file declares is not to be believed before memory is set aside for it.
    """
    declared = math.prod(shape) * item_bytes
    if any(size < 0 for size in shape) or declared > most:
        raise UserError(
            f"{name} says that it is {' x '.join(map(str, shape))} and {declared / 1e9:.3g} GB: damaged, "
            f"or an episode needs more than episode_gb={most / 1e9:.3g}"
        )
    return declared
