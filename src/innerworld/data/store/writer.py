"""`Writer`: adds one episode after another while it holds the store, and leaves shards behind, no loose files."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType

from innerworld.data.store.store import COMPACT_BYTES, COMPACT_EPISODES, Store
from innerworld.errors import UserError
from innerworld.types import Clip

log = logging.getLogger(__name__)


class Writer:
    """A context. Each episode is committed when `add` returns; the rest is packed when the context ends, come what may.

    Entering raises `UserError` that names the process which holds the store.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._held = ExitStack()

    def add(self, clip: Clip, seed: int | None = None) -> None:
        """Commit one episode (b = 1). Raises `UserError` if it does not fit the store's spec, and for a full disk."""
        self.store.add(clip, seed)

    def add_all(self, clips: Sequence[Clip], seeds: Sequence[int | None]) -> None:
        """Commit episodes that ended at the same time: many become a shard at once, which writes each byte once.

        Raises `UserError` as `add`, and then none of a shard, or those before the one at fault, are committed.
        """
        size = sum(value.nbytes for clip in clips for value in clip.obs.values())
        if 2 * len(clips) >= COMPACT_EPISODES or 2 * size >= COMPACT_BYTES:
            self.store.compact()
            self.store.add_all(clips, seeds)
            return
        for clip, seed in zip(clips, seeds, strict=True):
            self.store.add(clip, seed)

    def flush(self) -> None:
        """Pack what is loose into a shard, which a power cut cannot take away. Raises `UserError` for a full disk."""
        self.store.compact()

    def __enter__(self) -> Writer:
        self._held.enter_context(self.store.writing())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._held:
            try:
                self.flush()
            except UserError as failed:
                if error is None:
                    raise
                log.warning("%s", failed)  # the episodes are safe as they are; what ended us says more
