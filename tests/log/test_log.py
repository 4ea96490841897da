"""Logs are functions that can be joined."""

from __future__ import annotations

from innerworld.log import silent, tee


def test_tee_and_silent() -> None:
    seen: list[tuple[str, int]] = []
    log = tee(lambda step, row: seen.append(("a", step)), silent, lambda step, row: seen.append(("b", step)))
    log(3, {"loss": 1.0})
    assert seen == [("a", 3), ("b", 3)]
