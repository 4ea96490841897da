"""Experience in which nothing happens, or hardly any: no NaN, and what is too short is left out with its name."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from innerworld.data import Clips, Store, import_log
from innerworld.data.importers.npz import NpzConfig
from innerworld.errors import UserError
from innerworld.evaluate.collapse import CollapseWatch
from innerworld.models.jepa import JEPA, JEPAConfig
from innerworld.models.rssm import RSSM, RSSMConfig
from innerworld.training import TrainConfig, train
from innerworld.types import Clip, Spec
from innerworld.world import WorldModel

SPEC = Spec({"pixels": (32, 32, 3), "state": (2,)}, 2)
SMALL = JEPAConfig(image_size=32, channels=4, latent=8, hidden=16, slices=16, rollout=2)
MODELS = {
    "jepa": lambda: JEPA(SMALL.model_copy(update={"sigreg": 0.1, "inverse": 1.0}), SPEC),
    "jepa with variance and covariance": lambda: JEPA(
        SMALL.model_copy(update={"sigreg": 0.0, "std": 1.0, "cov": 1.0}), SPEC
    ),
    "rssm": lambda: RSSM(RSSMConfig(deter=16, hidden=16, stoch=2, classes=4, depth=4, units=16, blocks=2), SPEC),
}


def still(t: int, grey: int = 128) -> Clip:
    """Always the same picture, the same numbers, and the same action."""
    return Clip(
        {
            "pixels": torch.full((1, t + 1, 32, 32, 3), grey, dtype=torch.uint8),
            "state": torch.full((1, t + 1, 2), 0.1),
        },
        torch.full((1, t, 2), 0.3),
        torch.zeros(1, t),
        torch.zeros(1, t, dtype=torch.bool),
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.create(tmp_path / "still", SPEC)
    store.add_all([still(8) for _ in range(4)])
    return store


def test_statistics_of_what_never_changes(store: Store) -> None:
    for column, moments in store.statistics().columns.items():
        assert all(map(math.isfinite, (*moments.mean, *moments.std, *moments.min, *moments.max))), column
        assert max(moments.std) < 1e-6 and moments.min == moments.max, column
    store.add(still(3))
    again = store.statistics().columns["action"]
    assert again.count == 4 * 8 + 3 and max(again.std) < 1e-6 and again.mean == pytest.approx((0.3, 0.3))


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("grey", [0, 255])
def test_models_learn_from_a_blank_video_without_nan(kind: str, grey: int, tmp_path: Path) -> None:
    store = Store.create(tmp_path / "s", SPEC)
    store.add_all([still(8, grey) for _ in range(4)])
    torch.manual_seed(0)
    model: WorldModel = MODELS[kind]()
    rows: list[dict[str, float]] = []
    config = TrainConfig(steps=3, log_every=1, check_every=1, device="cpu", threads=1)
    clips = Clips(store, None, length=4, batch=4)
    watch = CollapseWatch(model, clips.batch(9), "state")
    train(model, clips, config, log=lambda step, row: rows.append(dict(row)), watch=watch)
    assert len(rows) >= 3
    # A probe of a state that never changes explains nothing of nothing: its R2 alone is not a number.
    told = {name: value for row in rows for name, value in row.items() if name != "probe_r2"}
    assert all(math.isfinite(value) for value in told.values()), told
    assert all(p.isfinite().all() for p in model.parameters())


def log_of(folder: Path, *episodes: dict[str, np.ndarray]) -> Path:
    folder.mkdir()
    for i, arrays in enumerate(episodes):
        np.savez(folder / f"{i}.npz", allow_pickle=False, **arrays)
    return folder


@pytest.mark.parametrize("value", [0.0, 7.0, 1e-30, 1e30])
def test_an_action_that_never_moves_has_a_scale_all_the_same(value: float, tmp_path: Path) -> None:
    """Its smallest and largest are one number, by whose difference nothing may be divided."""
    log = tmp_path / "log"
    log.mkdir()
    t = 6
    action = np.stack([np.tile(np.linspace(-5, 5, t), 2), np.full(2 * t, value)], axis=1)
    ends = np.zeros(2 * t, bool)
    ends[[t - 1, 2 * t - 1]] = True
    np.savez(log / "a.npz", action=action, state=np.zeros((2 * t, 3)), ends=ends)
    store, _ = import_log("npz", log / "a.npz", tmp_path / "out", NpzConfig(ends="ends"))
    assert len(store) == 2
    for i in range(2):
        got = store.episode(i).action[0]
        assert got.isfinite().all() and got.abs().max() <= 1 and len(got[:, 1].unique()) == 1
    assert all(map(math.isfinite, (*store.meta.about.action_low, *store.meta.about.action_high)))  # type: ignore[misc]
    assert all(map(math.isfinite, store.statistics().columns["action"].std))


def test_an_episode_of_one_observation_is_named_or_skipped(tmp_path: Path) -> None:
    one = {"action": np.zeros((0, 2)), "state": np.zeros((1, 3))}
    good = {"action": np.zeros((4, 2)), "state": np.zeros((5, 3))}
    log = log_of(tmp_path / "log", good, one, good)
    with pytest.raises(UserError, match=r"1\.npz: .*1 observations: at least 2"):
        import_log("npz", log, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    store, skipped = import_log("npz", log, tmp_path / "out", on_bad="skip")
    assert len(store) == 2 and len(skipped) == 1 and skipped[0].startswith("1.npz")
    with pytest.raises(UserError, match="at least one action"):
        store.add(Clip({"state": torch.zeros(1, 1, 3)}, torch.zeros(1, 0, 2), torch.zeros(1, 0), torch.zeros(1, 0) > 0))


def test_a_film_of_one_frame_is_named(tmp_path: Path) -> None:
    from PIL import Image

    for name, frames in (("a", 1), ("b", 3)):
        (tmp_path / "films" / name).mkdir(parents=True)
        for i in range(frames):
            Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "films" / name / f"{i}.png")
    with pytest.raises(UserError, match=r"a: it has 1 frames: at least 2"):
        import_log("video", tmp_path / "films", tmp_path / "out")
    store, skipped = import_log("video", tmp_path / "films", tmp_path / "out", on_bad="skip")
    assert len(store) == 1 and len(skipped) == 1


def test_episodes_shorter_than_the_frames_to_skip(tmp_path: Path) -> None:
    episodes = [{"action": np.zeros((t, 2)), "state": np.zeros((t + 1, 3))} for t in (9, 3, 5)]
    log = log_of(tmp_path / "log", *episodes)
    with pytest.raises(UserError, match=r"1\.npz: it has 3 actions: frame_skip=5 needs at least 5"):
        import_log("npz", log, tmp_path / "out", NpzConfig(frame_skip=5))
    store, skipped = import_log("npz", log, tmp_path / "out", NpzConfig(frame_skip=5), on_bad="skip")
    assert store.lengths.tolist() == [1, 1] and len(skipped) == 1


def test_episodes_shorter_than_a_clip(store: Store) -> None:
    store.add_all([still(t) for t in (1, 2, 3)])
    clips = Clips(store, None, length=3, batch=64)
    assert clips.too_short == 2 and clips.windows == 4 * 6 + 1
    assert "episode 4" not in " ".join(clips.origin(0)) and "episode 5" not in " ".join(clips.origin(0))
    with pytest.raises(UserError, match="no episode has the 9 actions of a clip"):
        Clips(store, None, length=9, batch=2)
