"""What was seldom drawn is drawn next: the chances are those of DRAMA's sampling, the counts survive."""

from __future__ import annotations

from collections import Counter
from itertools import permutations
from math import exp
from pathlib import Path

import numpy as np
import pytest

from innerworld.data.draws import Draws
from innerworld.errors import UserError

ONE = np.zeros(1, np.int64)


def counted(*counts: int, tau: float = 2.0) -> Draws:
    """One life, of as many moments."""
    draws = Draws(1, len(counts), tau)
    draws.counts[0] = counts
    return draws


def test_the_chance_is_the_softmax_of_how_often_it_was_drawn():
    rng, found, counts = np.random.default_rng(0), Counter[int](), (1003, 1000, 1001, 1000)
    for _ in range(4000):
        found[counted(*counts).draw(rng, ONE, ONE + 4, 1)[0][1]] += 1
    odds = np.exp(-np.array(counts, float) / 2 + 500)
    expected = 4000 * odds / odds.sum()
    assert np.abs(np.array([found[start] for start in range(4)]) - expected).max() < 4 * 4000**0.5 / 2


def test_a_batch_is_drawn_one_after_the_other_without_repeats():
    """Each pair as likely as two draws of which the second finds the first gone."""
    rng, found, counts = np.random.default_rng(0), Counter[frozenset[int]](), (0, 3, 1)
    for _ in range(4000):
        found[frozenset(start for _, start in counted(*counts).draw(rng, ONE, ONE + 3, 2))] += 1
    odds = [exp(-count / 2) for count in counts]
    chance = Counter[frozenset[int]]()
    for first, second in permutations(range(3), 2):
        chance[frozenset({first, second})] += odds[first] / sum(odds) * odds[second] / (sum(odds) - odds[first])  # type: ignore[assignment]
    assert len(found) == 3
    for pair, n in found.items():
        assert abs(n - 4000 * chance[pair]) < 4 * 4000**0.5 / 2


def test_counts_far_apart_leave_something_to_draw():
    """Whose weights are all 0 in floating point is drawn when nothing else is left."""
    draws = counted(0, 10**6, 2 * 10**6)
    drawn = draws.draw(np.random.default_rng(0), ONE, ONE + 3, 2)
    assert sorted(drawn) == [(0, 0), (0, 1)]


def test_all_moments_are_drawn_about_as_often():
    draws, rng = Draws(2, 30, 1.0), np.random.default_rng(0)
    for _ in range(300):
        draws.draw(rng, np.array([0, 5]), np.array([20, 10]), 4)
    drawn = np.concatenate([draws.counts[0, :20], draws.counts[1, 5:15]])
    assert drawn.sum() == draws.counts.sum() == 1200
    assert drawn.min() >= 35 and drawn.max() <= 45  # 40; uniformly it would be 20 to 60


def test_each_life_is_a_ring_of_its_own():
    """The second life has moments 8 to 11 of a ring of 5, which begin in rows 3, 4, 0 and 1."""
    draws = Draws(3, 5, 1.0)
    drawn = draws.draw(np.random.default_rng(0), np.array([0, 8, 3]), np.array([0, 4, 1]), 5)
    assert sorted(drawn) == [(1, 8), (1, 9), (1, 10), (1, 11), (2, 3)]
    assert draws.counts.tolist() == [[0] * 5, [1, 1, 0, 1, 1], [0, 0, 0, 1, 0]]
    draws.forget(1, 13)
    assert draws.counts[1].tolist() == [1, 1, 0, 0, 1]


def test_fewer_moments_than_clips_are_drawn_again():
    draws = Draws(1, 10, 1.0)
    drawn = draws.draw(np.random.default_rng(0), ONE, ONE + 3, 7)
    assert len(drawn) == 7 and sorted(Counter(drawn).values()) == [2, 2, 3] and draws.counts.sum() == 7


def test_what_is_saved_comes_back_and_other_rows_are_refused(tmp_path: Path):
    path = tmp_path / "draws.npy"
    counted(3, 0, 7).save(path)
    again = Draws(1, 3, 2.0)
    again.load(path)
    assert again.counts.tolist() == [[3, 0, 7]]
    with pytest.raises(UserError, match="other rows"):
        Draws(1, 4, 2.0).load(path)
    path.write_bytes(b"torn")
    with pytest.raises(UserError, match=r"cannot read .*draws\.npy"):
        again.load(path)
