"""What was learnt, told: blocks of episodes count what happened within them, and nothing is said that is unknown."""

from __future__ import annotations

from typing import Any

from innerworld.recipes.minding.learnt import blocks, knowledge, section, sentences


def row(k: int, **more: Any) -> dict[str, Any]:
    told = {"reached": k % 2 == 0, "return": float(k), "steps": 10 + k, "degraded": 0, "surprise": 0.5 * k}
    return {**told, "updates": 2 * (k + 1), "taken_back": k // 4, "frozen": k > 6, **more}


def test_blocks_count_what_happened_within_them() -> None:
    cells = blocks([row(k) for k in range(8)])
    assert [line[0] for line in cells] == ["0 to 1", "2 to 3", "4 to 5", "6 to 7"]
    assert cells[0] == ["0 to 1", "1 of 2", "0.5", "10.5", "0.25", "4", "0", "no"]
    assert cells[2][5:] == ["4", "1", "no"] and cells[3][5:] == ["4", "0", "1 of 2"]
    assert [line[0] for line in blocks([row(0), row(1)])] == ["0", "1"]


def test_what_nobody_knows_is_a_dash() -> None:
    assert blocks([row(0, reached=None, surprise=None)])[0][1:5] == ["-", "0", "10.0", "-"]


def test_it_is_said_in_words() -> None:
    told = {
        "run": "there", "updates": 0, "taken_back": 1, "why": ["update 1 was taken back: it was ruin"],
        "optimiser_steps": 20, "frozen": True, "frozen_after": 3, "sights": 7, "critic": "none",
        "rows": [row(0), row(1)], "knows": {"old": {"loss": [1.0, 2.0]}},
    }  # fmt: skip
    said = " ".join(sentences(told))
    for words in ("0 updates, 1 taken back", "Frozen after episode 3", "No weight changed", "it was ruin", "there"):
        assert words in said
    assert knowledge(told) == [["old", "loss", "1", "2"]]
    assert len(section(told).blocks) == 4
