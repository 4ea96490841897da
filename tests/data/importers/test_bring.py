"""What an episode of a log becomes: skipped, joined, summed, scaled, cut and shrunk; all of a log or nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from innerworld.data import About, Store
from innerworld.data.importers import Episode, ImportConfig, Recording, Take, bring_in
from innerworld.data.importers.bring import measured
from innerworld.errors import UserError
from innerworld.types import Spec

T = 7


def take(**change: Any) -> Take:
    """Numbers that tell their time."""
    time = np.arange(T + 1)
    eye = np.tile(time.astype(np.uint8)[:, None, None, None], (1, 6, 8, 3))
    parts = {
        "obs": {"state": time[:, None].astype(np.float64), "eye": eye},
        "action": np.stack([time[:T], -time[:T]], 1) / 10,
        "reward": time[:T].astype(np.float64),
        "terminated": time[:T] == T - 1,
    }  # fmt: skip
    return Take(**{**parts, **change})


def recording(*takes: Take | Callable[[], Take], **other: Any) -> Recording:
    reads = [each if callable(each) else lambda each=each: each for each in takes]
    episodes = [Episode(f"log {i}", read) for i, read in enumerate(reads)]
    return Recording(About(env="toy", fps=30), episodes, **other)


def bring(tmp_path: Path, opened: Recording, on_bad: Any = "stop", **config: Any) -> Store:
    return bring_in(opened, tmp_path / "out", ImportConfig(**config), on_bad)[0]


def test_as_it_is(tmp_path: Path) -> None:
    store = bring(tmp_path, recording(take()))
    assert store.spec == Spec({"state": (1,), "eye": (6, 8, 3)}, 2) and store.meta.about == About(env="toy", fps=30)
    clip = store.episode(0)
    assert clip.obs["state"].tolist() == [[[t] for t in range(8)]] and clip.action[0, 3].tolist() == pytest.approx(
        [0.3, -0.3]
    )


def test_frames_skipped_and_actions_joined(tmp_path: Path) -> None:
    store = bring(tmp_path, recording(take()), frame_skip=3)
    clip = store.episode(0)
    assert clip.obs["state"].tolist() == [[[0], [3], [6]]] and clip.reward.tolist() == [[0 + 1 + 2, 3 + 4 + 5]]
    torch.testing.assert_close(clip.action[0, 1] * 10, torch.tensor([3.0, -3, 4, -4, 5, -5]))
    assert not clip.terminated.any()  # the world ended in the remainder, which is left out
    assert store.meta.about.fps == 10 and store.meta.about.more == {"frame_skip": 3, "actions": "join"}
    assert bring_in(recording(take()), tmp_path / "b", ImportConfig(frame_skip=7))[0].episode(0).terminated.all()


def test_actions_summed_and_their_scale_says_so(tmp_path: Path) -> None:
    store = bring(tmp_path, recording(take()), frame_skip=2, actions="sum", action_low=-2, action_high=2)
    about = store.meta.about
    assert (about.action_low, about.action_high) == ((-4, -4), (4, 4))
    low, high = np.array(about.action_low), np.array(about.action_high)
    units = (store.episode(0).action[0].numpy() + 1) / 2 * (high - low) + low
    np.testing.assert_allclose(units * 10, [[0 + 1, -1], [2 + 3, -5], [4 + 5, -9]], atol=1e-5)


def test_pictures_are_cut_square_and_shrunk(tmp_path: Path) -> None:
    eye = np.random.default_rng(0).integers(0, 256, (T + 1, 6, 8, 3), np.uint8)
    store = bring(tmp_path, recording(take(obs={"eye": eye})), size=3)
    exact = eye[:, :, 1:7].reshape(T + 1, 3, 2, 3, 2, 3).mean((2, 4))
    assert np.abs(store.episode(0).obs["eye"][0].numpy() - exact).max() <= 0.51
    with pytest.raises(UserError, match="log's own 6, got 7: nothing is enlarged"):
        bring_in(recording(take()), tmp_path / "b", ImportConfig(size=7))


@pytest.mark.parametrize(
    ("eye", "shape"),
    [
        (np.zeros((T + 1, 6, 8), np.uint8), (6, 8, 1)),
        (np.zeros((T + 1, 3, 6, 8), np.uint8), (6, 8, 3)),
        (np.zeros((T + 1, 6, 8, 4), np.uint8), (6, 8, 4)),
        (np.zeros((T + 1, 6, 8, 3)), (6, 8, 3)),
        (np.zeros((T + 1, 9, 2)), (18,)),
        (np.zeros(T + 1, np.int32), (1,)),
        (np.zeros((T + 1, 5), np.uint8), (5,)),
    ],
)
def test_what_is_a_picture(tmp_path: Path, eye: np.ndarray, shape: tuple[int, ...]) -> None:
    assert bring(tmp_path, recording(take(obs={"eye": eye}))).spec.obs["eye"] == shape


def test_pictures_of_floats(tmp_path: Path) -> None:
    eye = np.linspace(0, 1, (T + 1) * 6 * 8 * 3).reshape(T + 1, 6, 8, 3)
    with pytest.raises(UserError, match="give white=1"):
        bring(tmp_path, recording(take(obs={"eye": eye})))
    store = bring(tmp_path, recording(take(obs={"eye": eye})), white=1)
    np.testing.assert_array_equal(store.episode(0).obs["eye"][0], np.rint(eye * 255).astype(np.uint8))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"action": np.zeros((6, 2))}, "'state' has 8 rows, but there are 6 actions: expected 7"),
        ({"obs": {}}, "no sensors"),
        ({"obs": {"state": np.zeros((1, 2))}, "action": None}, "1 observations: at least 2"),
        ({"action": np.full((T, 2), np.inf)}, "action is not finite at time step 0"),
        ({"action": np.full((T, 2), 3.0)}, r"action at time step 0 leaves \[-1, 1\]: \[3.0, 3.0\]; say what"),
        ({"action": np.zeros((T, 0))}, "'action' has shape"),
        ({"action": np.array([["a"]] * T)}, "'action' is of type"),
        ({"reward": np.full(T, np.nan)}, "reward is not finite"),
        ({"reward": np.zeros((T, 2))}, "'reward' has shape"),
        ({"terminated": np.zeros(3)}, "'terminated' has shape"),
        ({"obs": {"state": np.array(["a"] * 8)}}, "'state' is of type"),
    ],
)
def test_a_take_that_cannot_be_fitted(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=f"log 1: .*{told}"):
        bring(tmp_path, recording(take(), take(**change)))
    store, skipped = bring_in(recording(take(), take(**change), take()), tmp_path / "out", ImportConfig(), "skip")
    assert len(store) == 2 and len(skipped) == 1 and skipped[0].startswith("log 1: ")


def test_the_first_that_can_be_read_says_what_the_world_is_like(tmp_path: Path) -> None:
    bad, other = take(action=np.full((T, 2), 9.0)), take(action=np.zeros((T, 3)))
    store, skipped = bring_in(recording(bad, take(), other), tmp_path / "out", ImportConfig(), "skip")
    assert store.spec.action == 2 and len(skipped) == 2 and "3 numbers, the spec says 2" in skipped[1]


def test_all_or_nothing_whatever_happens(tmp_path: Path) -> None:
    def broken() -> Take:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bring(tmp_path, recording(take(), broken))
    with pytest.raises(UserError, match="none of the 1 episodes can be imported, the first because log 0: it has no"):
        bring(tmp_path, recording(take(obs={})), on_bad="skip")
    with pytest.raises(UserError, match="no episodes"):
        bring(tmp_path, recording())
    assert not list(tmp_path.iterdir())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(UserError, match="exists already"):
        bring(tmp_path, recording(take()))


def test_limit_seed_and_progress(tmp_path: Path) -> None:
    done: list[int] = []
    store, _ = bring_in(
        recording(take(seed=5), take(), take(seed=7)), tmp_path / "out", ImportConfig(limit=2), "stop", done.append
    )
    assert done == [1, 2] and store.seeds.tolist() == [5, -1]


def test_bounds(tmp_path: Path) -> None:
    for low, high in ((1, 1), (None, 1), ((0, 0), (1,)), (float("nan"), 1)):
        with pytest.raises(UserError, match="needed together"):
            bring(tmp_path, recording(take()), action_low=low, action_high=high)
    with pytest.raises(UserError, match="2 numbers, action_low has 3"):
        bring(tmp_path, recording(take()), action_low=(-1, -1, -1), action_high=(1, 1, 1))
    wide = recording(take(action=np.full((T, 2), 5.0)), bounds=lambda: (np.array([0, 5.0]), np.array([10, 5.0])))
    store = bring(tmp_path, wide)
    assert not store.episode(0).action.any() and store.meta.about.action_low == (0, 4)


def test_measured() -> None:
    def broken() -> np.ndarray:
        raise UserError("no")

    low, high = measured([broken, lambda: np.array([[0, 3], [np.nan, 9]]), lambda: np.array([[-2, 1]])])
    assert low.tolist() == [-2, 1] and high.tolist() == [0, 3]
    low, high = measured([lambda: np.array([[0.5, -0.5]])])
    assert low.tolist() == [-1] and high.tolist() == [1]
