"""Small films, and frames that are timed briefly: what a page shows and how fast a frame is are asked elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from innerworld.evaluate import expense, speed
from innerworld.report import movie


@pytest.fixture(scope="module", autouse=True)
def hasty() -> Iterator[None]:
    """Encoding films in the size that people look at took half of these tests' time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(movie, "LARGEST", 16)
        patch.setattr(speed, "WARM", 1)
        patch.setattr(speed, "TIMED", 2)
        patch.setattr(expense, "MOST", 1)
        yield
