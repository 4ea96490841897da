"""All measures at once, of a model that is its world, one that is deaf, one that drifts, and of experience that lacks
something."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from innerworld.data import About, Store
from innerworld.errors import UserError
from innerworld.evaluate import generation
from innerworld.evaluate.generation import Drawings, judge_frames
from innerworld.evaluate.inverse import InverseConfig
from innerworld.types import Clip, Spec
from innerworld.world import WorldModel

Know = Callable[..., WorldModel]
LEARN, HELD_OUT = np.arange(18), np.arange(18, 24)
READER = InverseConfig(transitions=1024, steps=120, channels=8, features=16)
HASTY = InverseConfig(transitions=256, steps=1, channels=4, features=8)
EXACT = pytest.approx(10 * math.log10(12 * 255**2), rel=1e-5)  # dB: equal in 8 bits


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "CLIPS", (16,))


def judged(model: WorldModel, films: Store, reader: InverseConfig = HASTY, seed: int = 0, skip: int = 1) -> Drawings:
    return judge_frames(model, films, LEARN, HELD_OUT, "pixels", 8, skip, seed, reader)


def test_who_knows_the_world_is_perfect(films: Store, know: Know) -> None:
    found = judged(know(), films, reader=READER)
    known = found.metrics
    assert [known[name] for name in ("psnr_30", "psnr_codec", "psnr_to_codec_30")] == [EXACT] * 3
    assert known["psnr_still_1"] < 30
    assert known["ssim_30"] == pytest.approx(1, abs=1e-4) and known["ssim_still_30"] < 0.95
    assert known["delta_psnr_4_low"] > 10 and known["shuffled_loss_ratio_low"] > 1.3
    assert known["shuffled_picture_ratio_4_low"] > 10
    assert known["readback"] == known["readback_real"] == known["readback_codec"] > 0.85
    assert known["readback_random"] > 0.85 and known["readback_chance"] < 0.45
    assert known["return_error"] == known["turn_error"] == known["return_error_codec"] == 0
    for net in ("random_conv", "inverse"):
        assert known[f"frechet_{net}"] < 1e-3 < 1 < known[f"frechet_{net}_still"]
    assert not found.untried and all(math.isfinite(value) for value in known.values())
    names = [name for name, _ in found.films[0]]
    assert len(found.films) == 2 and names == ["real", "imagined, the same actions", "imagined, random actions"]
    real, same, random = (frames for _, frames in found.films[0])
    assert real.shape == (31, 16, 16, 3) and (real == same).all() and (real != random).any()
    assert "16 held-out clips; 5 frames are seen, then 30 steps imagined" in found.protocol.values()


def test_who_is_deaf_follows_nothing(films: Store, know: Know) -> None:
    known = judged(know(heeds=False), films, reader=READER).metrics
    assert known["delta_psnr_4"] == 0 and known["shuffled_loss_ratio"] == known["shuffled_picture_ratio_4"] == 1
    assert known["readback_random"] < 0.5 < 0.85 < known["readback_real"]
    assert known["return_error"] < 0.1 and known["turn_error"] > 0.5  # it never left
    assert known["psnr_1"] > known["psnr_still_1"]  # which error of prediction does not tell


def test_the_codec_s_loss_is_parted_from_drift(films: Store, know: Know) -> None:
    lossy, drifting = (judged(know(**settings), films).metrics for settings in ({"lost": 0.2}, {"blur": 0.02}))
    assert lossy["psnr_codec"] < 35 and lossy["psnr_to_codec_30"] == EXACT
    assert drifting["psnr_codec"] == EXACT and drifting["psnr_to_codec_30"] < 25 < drifting["psnr_to_codec_1"]
    assert drifting["frechet_random_conv"] > drifting["frechet_random_conv_codec"] == pytest.approx(0, abs=1e-4)
    assert lossy["frechet_random_conv_codec"] > 0.1


def test_it_is_the_same_each_time_and_leaves_the_model_and_chance_alone(films: Store, know: Know) -> None:
    model = know().train()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one, two = (judged(model, films, seed=3).metrics for _ in range(2))
    assert one.pop("frames_per_s") > 0 and two.pop("frames_per_s") > 0 and one == two
    assert model.training and torch.equal(torch.get_rng_state(), state)


def test_short_episodes_are_imagined_as_far_as_they_go(films: Store, know: Know, tmp_path) -> None:
    short = Store.create(tmp_path / "data", films.spec)
    for i in range(24):
        short.add(films.episode(i).cut(0, 3))
    found = judged(know(), short)
    assert found.drift.psnr.shape[1] == 2 and "psnr_1" in found.metrics and "psnr_4" not in found.metrics
    assert "delta_psnr_2" in found.metrics
    assert "names no world" in found.untried["return_error"] and "return_error" not in found.metrics


def test_a_film_without_actions_is_judged_as_one(films: Store, know: Know, tmp_path) -> None:
    spec = Spec(films.spec.obs, 0)
    store = Store.create(tmp_path / "data", spec, About(env="paddle"))
    for i in range(24):
        clip = films.episode(i)
        store.add(Clip(clip.obs, clip.action[..., :0], clip.reward, clip.terminated))
    model = know(heeds=False)
    model.spec = spec
    found = judged(model, store)
    assert {"psnr_30", "ssim_30", "frechet_random_conv", "frames_per_s"} <= found.metrics.keys()
    assert not any(name.startswith(("delta", "readback", "shuffled", "frechet_inverse")) for name in found.metrics)
    assert found.untried["whether actions are followed"] == "the store holds no actions" and not found.read
    assert len(found.films[0]) == 2


def test_slow_models_and_large_pictures_get_fewer_clips(films: Store, know: Know, monkeypatch) -> None:
    monkeypatch.setattr(generation, "CLIPS", (16, 8, 4))
    monkeypatch.setattr(generation, "flops_per_frame", lambda *_: 1e12)
    assert len(judged(know(), films).drift.psnr) == 4
    monkeypatch.setattr(generation, "flops_per_frame", lambda *_: 0)
    monkeypatch.setattr(generation, "BYTES", 8 * 34 * 16 * 16 * 3)
    assert len(judged(know(), films).drift.psnr) == 8


def test_episodes_of_nothing_are_refused(films: Store, know: Know) -> None:
    with pytest.raises(UserError, match="shorter than a step"):
        judged(know(), films, skip=100)
