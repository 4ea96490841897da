"""`Bucket`: the files of a store elsewhere (s3://, gs://, https://, ...), fetched into a bounded cache here."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from innerworld.activity import doing
from innerworld.disk import reason
from innerworld.errors import UserError

T = TypeVar("T")

CHUNK = 16_000_000
"""Bytes asked for at a time: what a broken connection costs."""

CACHE_GB = 50.0
ABANDONED_S = 3600
"""Half a download that has stood still for so long may be thrown away for another one's sake."""

WEB = ("http", "https")
MANIFEST = "manifest.jsonl"
PART, NOTE, LOCK = ".part", ".note", ".lock"
"""Ends of what stands beside a cached file: what has come of it, which version it is, and who fetches it."""


class Bucket:
    """`Files` at an address that fsspec understands. What is asked for is fetched whole, once, and kept in `cache`.

    The cache (by default `$INNERWORLD_CACHE`, else `~/.cache/innerworld`) holds at most `limit_gb` (by default
    `$INNERWORLD_CACHE_GB`, else 50): what was not used for longest goes first. Any number of processes may share it. A
    download that was killed goes on where it was. Raises `UserError` that names the address when a file cannot be had
    after `tries`, for a scheme whose package is not installed, and for a name that leads out of the store.
    """

    def __init__(
        self, address: str, cache: Path | str | None = None, limit_gb: float | None = None, tries: int = 4
    ) -> None:
        self.name = address.rstrip("/")
        self.tries = tries
        self.limit = int(
            1e9 * (float(os.environ.get("INNERWORLD_CACHE_GB", CACHE_GB)) if limit_gb is None else limit_gb)
        )
        home = os.environ.get("INNERWORLD_CACHE") or Path.home() / ".cache" / "innerworld"
        self._cache = Path(cache or home)
        self._folder = self._cache / hashlib.sha256(self.name.encode()).hexdigest()[:16]
        self._system, self._root = _file_system(self.name)
        self._checked: set[str] = set()  # shards do not change: one look for each process suffices

    def names(self, folder: str) -> list[str]:
        """The names of the files directly in `folder`, sorted. A web server that lists nothing is asked for each."""
        at = self._root if folder in ("", ".") else f"{self._root}/{_inside(folder, self.name)}"
        try:
            entries = self._try(lambda: self._list(at), f"list {self.name}/{folder}")
        except FileNotFoundError:
            entries = []
        found = {_base(entry["name"]) for entry in entries if entry["type"] == "file" and _base(entry["name"])}
        if not found and self.name.startswith(WEB):
            found = set(self._listed(folder))
        return sorted(found)

    def local(self, file: str) -> Path:
        """A copy on this disk of what `file` is now; of a shard, of what it was when this process first asked."""
        path = self._folder / _inside(file, self.name)
        if file in self._checked and path.exists():
            os.utime(path)
            return path
        import filelock  # late: it takes 40 ms

        with doing(f"fetching {self.name}/{file}"):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with filelock.FileLock(path.with_name(path.name + LOCK)):
                    self._bring(file, path)
            except OSError as error:
                raise UserError(f"cannot keep {self.name}/{file} in {self._cache}: {reason(error)}") from error
        if "/" in file:
            self._checked.add(file)
        return path

    def size(self, file: str) -> int | None:
        """Bytes of a file, or None where the server does not say."""
        return self._about(file)[0]

    # ------------------------------------------------------------------ fetching

    def _bring(self, file: str, path: Path) -> None:
        """Make `path` what `file` is now; we are the only ones to try."""
        size, version = self._about(file)
        note, part = path.with_name(path.name + NOTE), path.with_name(path.name + PART)
        if path.exists() and _text(note) == version and size in (None, path.stat().st_size):
            os.utime(path)
            return
        if _text(note) != version:  # what has come so far is of another version
            part.unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            note.write_text(version, encoding="utf-8")
        self._make_room(size or 0, path)
        self._download(file, part, size)
        os.replace(part, path)

    def _download(self, file: str, part: Path, size: int | None) -> None:
        """Add to `part`, piece by piece, until it is whole."""
        with part.open("ab") as out:
            have = out.tell()
            while size is None or have < size:
                stop = None if size is None else min(have + CHUNK, size)
                data, whole = self._piece(file, have, stop, size)
                if whole:
                    out.truncate(0)
                    have = 0
                out.write(data)
                have += len(data)
                if whole:
                    break
            out.flush()
            os.fsync(out.fileno())

    def _piece(self, file: str, start: int, stop: int | None, size: int | None) -> tuple[bytes, bool]:
        """These bytes of a file; or all of them, where a web server cannot send some or does not say how many."""

        def ask() -> tuple[bytes, bool]:
            if stop is None:
                return self._system.cat_file(f"{self._root}/{file}"), True
            data = self._system.cat_file(f"{self._root}/{file}", start, stop)
            if len(data) not in (stop - start, size):
                raise OSError(f"it sent {len(data)} bytes of {stop - start}")
            return data, len(data) == size

        return self._try(ask, f"fetch {self.name}/{file}")

    def _about(self, file: str) -> tuple[int | None, str]:
        """Bytes, and what changes when the file does."""
        remote = f"{self._root}/{_inside(file, self.name)}"
        try:
            info = self._try(lambda: self._system.info(remote), f"find {self.name}/{file}")
        except FileNotFoundError as error:
            raise UserError(f"{self.name}/{file} is not there") from error
        marks = [str(info.get(key)) for key in ("size", "ETag", "etag", "mtime", "LastModified", "md5Hash", "created")]
        size = info.get("size")
        return (None if size is None else int(size)), json.dumps(marks)

    def _list(self, at: str) -> list[dict[str, Any]]:
        self._system.invalidate_cache()  # it remembers listings, and a writer may have added files
        return self._system.ls(at, detail=True)

    def _listed(self, folder: str) -> list[str]:
        """What must be there, by the manifest, if that is there."""
        there = [file for file in ("meta.json", MANIFEST, "statistics.json") if self._exists(file)]
        if folder in ("", "."):
            return there
        if MANIFEST not in there:
            return []
        lines = self.local(MANIFEST).read_bytes().split(b"\n")[:-1]
        try:
            files = [str(json.loads(line).get("file", "")) for line in lines]
        except (ValueError, AttributeError, RecursionError) as error:
            raise UserError(f"{self.name}/{MANIFEST} is corrupt: {error}") from error
        return [_base(file) for file in files if file.rpartition("/")[0] == folder]

    def _exists(self, file: str) -> bool:
        return bool(self._try(lambda: self._system.exists(f"{self._root}/{file}"), f"find {self.name}/{file}"))

    def _try(self, what: Callable[[], T], words: str) -> T:
        """Do it, again after a while if it fails. Raises `FileNotFoundError` at once, `UserError` in the end."""
        for attempt in range(self.tries):
            try:
                return what()
            except FileNotFoundError:
                raise
            except Exception as error:  # each file system has its own kinds
                if attempt + 1 == self.tries or isinstance(error, PermissionError):
                    said = " ".join(str(error).split()) or type(error).__name__
                    raise UserError(f"cannot {words}: {said} (tried {attempt + 1} times)") from error
            time.sleep(0.25 * 2**attempt)
        raise UserError(f"cannot {words}: tries must be at least 1")

    # ------------------------------------------------------------------ the cache

    def _make_room(self, size: int, keep: Path) -> None:
        """Delete what was not used for longest. A process that has such a file open still reads it."""
        if size > self.limit:
            raise UserError(
                f"{keep.name} has {size} bytes, more than the cache may hold ({self.limit}): raise limit_gb"
            )
        files = []
        for path in self._cache.rglob("*"):
            try:
                status = path.stat()
                coming = path.suffix == PART and time.time() - status.st_mtime < ABANDONED_S
                if path.is_file() and path.suffix not in (NOTE, LOCK) and path != keep and not coming:
                    files.append((status.st_mtime_ns, status.st_size, path))
            except FileNotFoundError:
                continue  # another process deletes as well
        total = sum(size for _, size, _ in files)
        for _, freed, path in sorted(files):
            if total + size <= self.limit:
                return
            try:
                path.unlink(missing_ok=True)
            except PermissionError:  # Windows keeps what is open
                continue
            total -= freed


def _file_system(address: str) -> tuple[Any, str]:
    try:
        import fsspec.core
    except ImportError as error:
        raise UserError(f'{address} needs fsspec: pip install "innerworld[data]"') from error
    try:
        system, root = fsspec.core.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise UserError(f"cannot read {address}: {' '.join(str(error).split())}") from error
    return system, str(root).rstrip("/")


def _inside(file: str, where: str) -> str:
    """`file`, if it is a plain relative path. Raises `UserError`: a manifest must not lead out of the store."""
    parts = file.split("/")
    if any(part in ("", ".", "..") or "\\" in part or ":" in part or "\0" in part for part in parts):
        raise UserError(f"{where} names the file {file!r}, which leads out of the store: do not trust it")
    return file


def _base(path: str) -> str:
    return path.rpartition("/")[2]


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
