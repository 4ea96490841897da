"""Hashed sentences: the same words in the same order, and nothing else, give the same numbers."""

from __future__ import annotations

import numpy as np
import pytest

from innerworld.envs.wording import hashed

SENTENCES = [f"go to the {color} {kind}" for color in ("red", "green", "blue") for kind in ("key", "ball", "box")]


def test_sentences_are_told_apart_and_alike_ones_are_near() -> None:
    found = np.stack([hashed(sentence, 64) for sentence in SENTENCES])
    near = found @ found.T
    assert found.dtype == np.float32 and np.allclose(np.diag(near), 1)
    assert (near - np.eye(len(near))).max() < 0.95
    assert near[0, 1] > hashed("pick up a box", 64) @ found[0]


def test_letters_decide_and_not_the_machine() -> None:
    assert np.array_equal(hashed("Go to the RED ball!", 32), hashed("go to the red ball", 32))
    assert not np.array_equal(hashed("the red ball", 32), hashed("ball the red", 32))
    assert np.flatnonzero(hashed("red", 16)).tolist() == [7]


@pytest.mark.parametrize("empty", ["", " . "])
def test_no_words_are_nothing(empty: str) -> None:
    assert not hashed(empty, 8).any()
