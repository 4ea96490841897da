"""Goals are refused where a task could not be restored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from innerworld.data import Smooth, Store, collect
from innerworld.envs import make, spec_of
from innerworld.errors import UserError
from innerworld.recipes.goals import draw_goals


@pytest.mark.parametrize("options", [None, {"variation": ("door",)}])
def test_worlds_that_are_laid_out_differently_have_no_goals_yet(tmp_path: Path, options: dict | None) -> None:
    worlds = make("two_rooms", 6, max_steps=5)
    spec = spec_of(worlds.single_observation_space, worlds.single_action_space)
    store = Store.create(tmp_path / "data", spec)
    collect(worlds, Smooth(spec), 12, store, options=options)
    if options is None:
        assert len(draw_goals(store, np.arange(12), worlds, 0).start) == 6
    else:
        with pytest.raises(UserError, match="laid out differently"):
            draw_goals(store, np.arange(12), worlds, 0)
