"""`Files`: where a store's files are; `Folder` on this disk. A store names its files relative to its root."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from innerworld.errors import UserError


class Files(Protocol):
    """What a store needs to read: which files there are, and each of them as a file on this disk."""

    @property
    def name(self) -> str:
        """What to call the place in messages: a path or an address."""
        ...

    def names(self, folder: str) -> list[str]:
        """The names of the files directly in `folder`, sorted; empty when there is no such folder."""
        ...

    def local(self, file: str) -> Path:
        """A path on this disk that holds `file` now, fetched first where it lies elsewhere. Raises `UserError`."""
        ...


class Folder:
    """Files on this disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        return str(self.path)

    def names(self, folder: str) -> list[str]:
        try:
            return sorted(entry.name for entry in (self.path / folder).iterdir() if entry.is_file())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise UserError(f"cannot list {self.path / folder}: {error.strerror}") from error

    def local(self, file: str) -> Path:
        return self.path / file
