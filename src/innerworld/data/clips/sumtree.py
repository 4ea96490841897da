"""`SumTree`: numbers that can be changed, and drawn in proportion to their size, in the logarithm of their count."""

from __future__ import annotations

import numpy as np


class SumTree:
    """Each inner node is the sum of its two children, always computed so: the sums depend on the leaves alone, not on
    the order in which they came, and a tree built from saved leaves draws exactly the same.
    """

    def __init__(self, leaves: np.ndarray) -> None:
        self.count = len(leaves)
        self._half = 1 << max(0, self.count - 1).bit_length()  # the leaves begin here; node i has children 2i and 2i+1
        self._sums = np.zeros(2 * self._half, np.float64)
        self._sums[self._half : self._half + self.count] = leaves
        begin = self._half
        while begin > 1:
            level = self._sums[begin : 2 * begin]
            begin //= 2
            self._sums[begin : 2 * begin] = level[::2] + level[1::2]

    @property
    def leaves(self) -> np.ndarray:
        return self._sums[self._half : self._half + self.count]

    @property
    def total(self) -> float:
        return float(self._sums[1])

    def set(self, index: np.ndarray, value: np.ndarray) -> None:
        """Change leaves; of several values for one leaf the last counts."""
        node = index + self._half
        self._sums[node] = value
        while node[0] > 1:
            node = np.unique(node // 2)
            self._sums[node] = self._sums[2 * node] + self._sums[2 * node + 1]

    def grown(self, leaves: np.ndarray) -> SumTree:
        """The tree with more leaves."""
        return SumTree(np.concatenate([self.leaves, leaves]))

    def find(self, height: np.ndarray) -> np.ndarray:
        """The leaf in which each height, in [0, total), lies when the leaves are stacked in their order."""
        node = np.ones(len(height), np.int64)
        height = height.astype(np.float64)
        while node[0] < self._half:
            left = self._sums[2 * node]
            right = (height >= left) & (self._sums[2 * node + 1] > 0)  # rounding must not lead into an empty half
            height = np.where(right, height - left, height)
            node = 2 * node + right
        return node - self._half
