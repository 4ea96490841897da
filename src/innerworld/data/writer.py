"""`Writer`: gathers episodes and commits them to a store in shards of a good size, also when something goes wrong."""

from __future__ import annotations

from types import TracebackType

from innerworld.data.store import Store, check_episode
from innerworld.types import Clip

EPISODES = 64
BYTES = 64_000_000


class Writer:
    """A context that commits whatever it was given when it ends, be it by an exception or by Ctrl-C."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._clips: list[Clip] = []
        self._seeds: list[int | None] = []
        self._bytes = 0

    def add(self, clip: Clip, seed: int | None = None) -> None:
        """Take one episode (b = 1). Raises `UserError` at once if it does not fit the store's spec."""
        check_episode(self.store.spec, clip)
        self._clips.append(clip)
        self._seeds.append(seed)
        self._bytes += sum(value.nbytes for value in clip.obs.values())
        if len(self._clips) >= EPISODES or self._bytes >= BYTES:
            self.flush()

    def flush(self) -> None:
        """Commit what was gathered as one shard. Raises `UserError` for a full disk."""
        before = len(self.store)
        try:
            self.store.add_all(self._clips, self._seeds)
        finally:
            # Ctrl-C may come right after the commit: then these episodes must not be written a second time.
            if len(self.store) > before or not self._clips:
                self._clips, self._seeds, self._bytes = [], [], 0

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()
