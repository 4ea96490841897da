"""From an exception to the one line that the user reads, and the exit code."""

from __future__ import annotations

import errno
import traceback

from innerworld.errors import UserError

INTERRUPTED = 130
MEMORY = "out of memory: use a smaller batch (--batch), shorter clips (--length), a smaller model or fewer worlds"
OF_THE_MACHINE = (
    errno.EACCES,
    errno.EDQUOT,
    errno.EEXIST,
    errno.EISDIR,
    errno.ENOENT,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
)


def explain(error: BaseException) -> tuple[str, int]:
    """The line and the exit code; prints the traceback of what is our own mistake."""
    if isinstance(error, UserError):
        return " ".join(str(error).split()), _code(error)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted: all that was saved before is safe", INTERRUPTED
    if _is_memory(error):
        return MEMORY, 2
    if isinstance(error, OSError) and error.filename is not None and error.errno in OF_THE_MACHINE:
        return f"cannot use {error.filename}: {error.strerror}", 2
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("innerworld"):
        return f"the package {error.name!r} is not installed here: pip install --upgrade innerworld brings it", 2
    traceback.print_exception(error)
    return f"this is a bug ({type(error).__name__}): please report it with the lines above and your command", 1


def _code(error: UserError) -> int:
    """That of an interrupted training, which knows its signal; 130 for an error that Ctrl-C became; else 2."""
    if isinstance(error.__context__, KeyboardInterrupt):
        return INTERRUPTED
    return error.code


def _is_memory(error: BaseException) -> bool:
    """Python's, numpy's, and torch's, which has a type of its own for accelerators only."""
    texts = ("can't allocate memory", "out of memory")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in texts)
    )
