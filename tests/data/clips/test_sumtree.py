"""The tree draws in proportion, and is the same however its numbers came in."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from innerworld.data.clips.sumtree import SumTree

leaves = st.lists(st.floats(0, 1e6), min_size=1, max_size=70).filter(lambda values: sum(values) > 0)


@given(leaves, st.randoms())
def test_a_height_lies_in_its_leaf(values: list[float], random) -> None:
    tree = SumTree(np.array(values))
    height = np.array([random.random() for _ in range(20)]) * tree.total
    found = tree.find(height)
    ends = np.cumsum(values)
    slack = 1e-9 * ends[-1]
    assert all(values[leaf] > 0 for leaf in found)
    assert all(
        ends[leaf] - values[leaf] - slack <= h <= ends[leaf] + slack for leaf, h in zip(found, height, strict=True)
    )


@given(leaves, leaves)
def test_the_order_of_changes_leaves_no_trace(values: list[float], more: list[float]) -> None:
    whole = SumTree(np.array(values + more))
    grown = SumTree(np.ones(len(values))).grown(np.ones(len(more)))
    for index in np.random.default_rng(0).permutation(len(values + more)):
        grown.set(np.array([index]), np.array([(values + more)[index]]))
    height = np.linspace(0, whole.total, 30, endpoint=False)
    assert grown.total == whole.total
    assert np.array_equal(grown.leaves, whole.leaves) and np.array_equal(grown.find(height), whole.find(height))


def test_of_two_values_for_a_leaf_the_last_counts() -> None:
    tree = SumTree(np.ones(5))
    tree.set(np.array([2, 2, 4]), np.array([7.0, 3.0, 0.0]))
    assert tree.leaves.tolist() == [1, 1, 3, 1, 0] and tree.total == 6
    assert set(tree.find(np.arange(0, 6, 0.01)).tolist()) == {0, 1, 2, 3}
