"""`Recent` and `Prioritised`: clips of a store that grows; new experience first, or what surprised most."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch

from innerworld.data.clips.clips import Clips
from innerworld.data.clips.sampler import Places, Sampler, random_state
from innerworld.data.clips.sumtree import SumTree
from innerworld.errors import UserError


class Recent(Sampler):
    """Clips of a growing store, new ones more often: the chance halves with every `half_life` windows of age.

    A share `uniform` of each batch is drawn from everything, so that nothing is forgotten. `refresh` takes in what the
    store has got; between two of them `batch(step)` is a pure function of (seed, step). `state_dict` says how many
    episodes were known: all there is to save.
    """

    def __init__(self, clips: Clips, half_life: float, uniform: float = 0.5) -> None:
        if not half_life > 0 or not 0 <= uniform <= 1:
            raise UserError(f"half_life is above 0 and uniform a share, got {half_life} and {uniform}")
        self.clips = clips
        self.size = clips.size
        self.cutters = clips.cutters
        self.half_life = half_life
        self.uniform = uniform
        self._known = len(clips.store)

    def refresh(self) -> int:
        """Take in the store's new episodes; how many windows are new."""
        self._known = len(self.clips.store)
        return self.clips.refresh(self._known)

    def places(self, step: int) -> Places:
        rng = random_state(self.clips.seed, step)
        windows = self.clips.windows
        # Where a falling exponential, cut off at the oldest window, reaches a uniform share of its area.
        reach = -math.expm1(-windows * math.log(2) / self.half_life)
        age = -np.log1p(-rng.random(self.size) * reach) * (self.half_life / math.log(2))
        recent = windows - 1 - np.minimum(age.astype(np.int64), windows - 1)
        anywhere = rng.integers(windows, size=self.size)
        return self.clips.places_of(np.where(rng.random(self.size) < self.uniform, anywhere, recent))

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"episodes": torch.tensor(self._known)}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go back to what was known then. Raises `UserError` if the store has lost episodes since."""
        self._known = _known(state, self.clips)
        self.clips.refresh(self._known)


class Prioritised(Sampler):
    """Clips drawn in proportion to priority ** `alpha` (Schaul et al., arXiv 1511.05952), which `update` sets.

    A window never updated has the largest priority seen so far. `batch(step)` is a pure function of (seed, step,
    priorities), and `state_dict` holds these: restored, it goes on exactly. Ask `windows(step)` and `weights(step)`
    before `update`, for they speak of the priorities of now. Not to be prefetched: what is drawn ahead of time would
    not know of the update.
    """

    def __init__(self, clips: Clips, alpha: float = 0.6, beta: float = 0.4) -> None:
        if alpha < 0 or not 0 <= beta <= 1:
            raise UserError(f"alpha is at least 0 and beta in [0, 1], got {alpha} and {beta}")
        self.clips = clips
        self.size = clips.size
        self.cutters = clips.cutters
        self.alpha = alpha
        self.beta = beta
        self._known = len(clips.store)
        self._largest = 1.0  # priority ** alpha
        self._tree = SumTree(np.full(clips.windows, self._largest))

    def refresh(self) -> int:
        """Take in the store's new episodes; how many windows are new."""
        self._known = len(self.clips.store)
        new = self.clips.refresh(self._known)
        self._tree = self._tree.grown(np.full(new, self._largest))
        return new

    def windows(self, step: int) -> np.ndarray:
        """Numbers of the windows in `batch(step)`, `b`: one from each of `b` equal layers, in random order."""
        rng = random_state(self.clips.seed, step)
        layer = (rng.permutation(self.size) + rng.random(self.size)) / self.size
        return self._tree.find(layer * self._tree.total)

    def places(self, step: int) -> Places:
        return self.clips.places_of(self.windows(step))

    def weights(self, step: int) -> torch.Tensor:
        """`b` floats in (0, 1]: what to weigh each clip's loss with, to undo (beta = 1) that some are drawn more."""
        chance = self._tree.leaves[self.windows(step)] / self._tree.total
        weight = (self._tree.count * chance) ** -self.beta
        return torch.from_numpy((weight / weight.max()).astype(np.float32))

    def update(self, windows: np.ndarray, priorities: torch.Tensor | np.ndarray) -> None:
        """Set the priorities of these windows: `b` numbers above 0, such as each clip's loss. Raises `UserError`."""
        values = np.asarray(torch.as_tensor(priorities).detach().cpu(), np.float64)
        if values.shape != windows.shape or not np.isfinite(values).all() or values.min() <= 0:
            raise UserError(f"priorities are finite numbers above 0, one for each of {len(windows)} windows")
        powered = values**self.alpha
        self._largest = max(self._largest, float(powered.max()))
        self._tree.set(windows, powered)

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {
            "episodes": torch.tensor(self._known),
            "largest": torch.tensor(self._largest, dtype=torch.float64),
            "leaves": torch.from_numpy(self._tree.leaves.copy()),
        }

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go back to what was known then. Raises `UserError` if the state belongs to another store or other clips."""
        self._known = _known(state, self.clips)
        self.clips.refresh(self._known)
        leaves = state["leaves"].numpy()
        if len(leaves) != self.clips.windows:
            raise UserError(f"the saved priorities are of {len(leaves)} windows, here are {self.clips.windows}")
        self._largest = float(state["largest"])
        self._tree = SumTree(leaves)


def _known(state: Mapping[str, torch.Tensor], clips: Clips) -> int:
    known = int(state["episodes"])
    if known > len(clips.store):
        raise UserError(f"{clips.store.name} has {len(clips.store)} episodes, {known} when the state was saved")
    return known
