"""Tokens are computed once: the store that holds them teaches what the eyes would have taught, and only with those."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from innerworld import checkpoint
from innerworld.data import Clips, Store
from innerworld.errors import UserError
from innerworld.models.codec import Codec, CodecConfig
from innerworld.models.dino_wm import DinoWM, DinoWMConfig
from innerworld.perception import FSQ, LeJEPA
from innerworld.perception.lejepa import LeJEPAConfig
from innerworld.recipes.lesson import Lesson, teach
from innerworld.recipes.precompute import precompute
from innerworld.testing.world_model import random_clip
from innerworld.training import TrainConfig
from innerworld.types import Spec

SPEC = Spec({"pixels": (16, 16, 3), "state": (2,)}, 2)
MODEL = {"depth": 1, "heads": 2, "head_dim": 12, "mlp": 32, "dropout": 0.0}


def encoder(folder: Path, seed: int) -> str:
    torch.manual_seed(seed)
    tiny = LeJEPA.presets["tiny"].model_dump()
    tiny["vit"] |= {"dim": 24, "depth": 1, "heads": 2, "mlp": 32}
    checkpoint.save(folder, LeJEPA(LeJEPAConfig.model_validate(tiny), SPEC), None, 0, None)
    return str(folder)


@pytest.fixture
def eyes(tmp_path: Path) -> str:
    return encoder(tmp_path / "eyes", 0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store.create(tmp_path / "data", SPEC, frames="zstd")
    for seed in range(5):
        made.add(random_clip(SPEC, 1, 4 + seed, seed), seed=seed)
    return made


def lesson(data: Path, eyes: str, size: int | None = None, **model: object) -> Lesson:
    settings = MODEL | {"eyes": {"checkpoint": eyes, "size": size}} | model
    train = TrainConfig(steps=3, device="cpu")
    return Lesson(family="dino_wm", data=str(data), batch=4, length=3, workers=0, train=train, model=settings)


def test_the_same_experience_with_tokens_beside_it(store: Store, eyes: str, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    made = precompute(store, tmp_path / "tokens", eyes, progress=lambda done, total: told.append((done, total)))
    assert told == [(i, 5) for i in range(1, 6)]
    (name,) = made.spec.obs.keys() - SPEC.obs.keys()
    assert name.startswith("pixels@") and made.spec.obs[name] == (4, 24)
    assert made.meta.about.more["tokens"] == {name.partition("@")[2]: {"eyes": eyes, "size": None}}
    assert made.meta.frames == "zstd" and made.seeds.tolist() == store.seeds.tolist()
    seeing = checkpoint.load(eyes, kind=LeJEPA)
    for i in range(5):
        was, now = store.episode(i), made.episode(i)
        assert all(torch.equal(was.obs[sensor], now.obs[sensor]) for sensor in SPEC.obs)
        assert torch.equal(was.action, now.action) and now.obs[name].dtype == torch.float16
        with torch.no_grad():
            seen = seeing.encode({"pixels": was.obs["pixels"][0]})
        torch.testing.assert_close(now.obs[name][0].float(), seen, atol=2e-3, rtol=2e-3)  # half precision
    assert len(made.statistics().columns[f"obs.{name}"].mean) == 24


def test_a_tokenizer_may_look_too(store: Store, tmp_path: Path) -> None:
    tokenizer = FSQ(FSQ.presets["tiny"], SPEC)  # pyright: ignore[reportArgumentType]
    checkpoint.save(tmp_path / "fsq", tokenizer, None, 0, None)
    made = precompute(store, tmp_path / "tokens", str(tmp_path / "fsq"))
    codec = Codec(CodecConfig(checkpoint=str(tmp_path / "fsq")), SPEC)
    (name,) = made.spec.obs.keys() - SPEC.obs.keys()
    assert name == f"pixels@{codec.config.fingerprint}" and made.spec.obs[name] == (16, 4)
    now = made.episode(2)
    found = codec.indices(codec.look({name: now.obs[name][0], "state": now.obs["state"][0]}))
    assert torch.equal(found, codec.indices(codec.look({sensor: now.obs[sensor][0] for sensor in SPEC.obs})))
    with pytest.raises(UserError, match="is a tokenizer, which sees at its own size: leave out --size"):
        precompute(store, tmp_path / "other", str(tmp_path / "fsq"), size=8)


def test_it_teaches_what_looking_teaches(store: Store, eyes: str, tmp_path: Path) -> None:
    made = precompute(store, tmp_path / "tokens", eyes)
    slow = teach(lesson(store.path, eyes), tmp_path / "slow", quiet=True)
    fast = teach(lesson(made.path, eyes), tmp_path / "fast", quiet=True)
    assert slow.spec == fast.spec == SPEC.only("pixels")  # acting, it looks for itself
    for (name, one), (_, two) in zip(slow.named_parameters(), fast.named_parameters(), strict=True):
        assert (one - two).abs().max() < 1e-2, name


def test_clips_carry_tokens_and_no_pictures(
    store: Store, eyes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = precompute(store, tmp_path / "tokens", eyes)
    model = DinoWM(DinoWMConfig.model_validate(MODEL | {"eyes": {"checkpoint": eyes}}), SPEC.only("pixels"))
    read = model.reads(made.spec)
    clip = Clips(made, None, 3, 4, sensors=read).batch(0)
    assert list(clip.obs) == read and "pixels" not in clip.obs
    monkeypatch.setattr(model.eyes[0].vit, "forward", None)  # not once
    assert bool(model.loss(clip)[0].isfinite())


def test_who_paints_reads_pictures_too(store: Store, eyes: str, tmp_path: Path) -> None:
    made = precompute(store, tmp_path / "tokens", eyes)
    painting = teach(lesson(made.path, eyes, decoder=2), tmp_path / "run", quiet=True)
    assert painting.reads(made.spec)[1:] == ["pixels"]


def test_a_lesson_goes_on_from_its_tokens(store: Store, eyes: str, tmp_path: Path) -> None:
    made = precompute(store, tmp_path / "tokens", eyes)
    whole = lesson(made.path, eyes)
    teach(whole.model_copy(update={"train": whole.train.model_copy(update={"steps": 1})}), tmp_path / "run", quiet=True)
    settings = checkpoint.load(tmp_path / "run", kind=DinoWM).config.model_dump(mode="json")
    resumed = teach(whole.model_copy(update={"model": settings}), tmp_path / "run", quiet=True, resume=True)
    assert resumed.reads(made.spec) == list(made.spec.obs)[2:]


def test_tokens_of_other_eyes_are_refused(store: Store, eyes: str, tmp_path: Path) -> None:
    made = precompute(store, tmp_path / "tokens", eyes)
    with pytest.raises(UserError, match="the tokens of 'pixels' in the store are of the eyes"):
        teach(lesson(made.path, encoder(tmp_path / "others", 1)), tmp_path / "run", quiet=True)
    with pytest.raises(UserError, match="the tokens of 'pixels' in the store are of the eyes"):
        teach(lesson(made.path, eyes, size=8), tmp_path / "run", quiet=True)


def test_several_eyes_share_a_store(store: Store, eyes: str, tmp_path: Path) -> None:
    both = precompute(precompute(store, tmp_path / "one", eyes), tmp_path / "two", encoder(tmp_path / "others", 1))
    assert len(both.spec.obs) == 4 and len(both.meta.about.more["tokens"]) == 2
    assert teach(lesson(both.path, eyes), tmp_path / "run", quiet=True).reads(both.spec) == [list(both.spec.obs)[2]]


def test_what_cannot_be_precomputed(store: Store, eyes: str, tmp_path: Path) -> None:
    made = precompute(store, tmp_path / "tokens", eyes)
    (name,) = made.spec.obs.keys() - SPEC.obs.keys()
    blind = Store.create(tmp_path / "blind", Spec({"state": (2,)}, 2))
    for wrong, sentence in (
        (lambda: precompute(store, made.path, eyes), "exists already"),
        (lambda: precompute(made, tmp_path / "again", eyes), f"has a sensor '{name}' already"),
        (lambda: precompute(store, tmp_path / "x", eyes, sensors=["state"]), "state is none"),
        (lambda: precompute(store, tmp_path / "x", str(tmp_path / "nobody")), "no folder"),
        (lambda: precompute(blind, tmp_path / "x", eyes), "has no image to look at"),
        (lambda: precompute(Store.create(tmp_path / "empty", SPEC), tmp_path / "x", eyes), "no episode"),
    ):
        with pytest.raises(UserError, match=sentence):
            wrong()
    assert not (tmp_path / "x").exists() and not list(tmp_path.glob("*.partial"))
    with pytest.raises(UserError, match="are tokens of 'pixels': name that"):
        teach(lesson(made.path, eyes).model_copy(update={"sensors": (name,)}), tmp_path / "run", quiet=True)
