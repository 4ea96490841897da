"""The codec: every sensor ↔ tokens, closed forms, learning and then holding still, borrowing, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from innerworld import checkpoint, families
from innerworld.errors import UserError
from innerworld.models.codec import REACH, Codec, CodecConfig
from innerworld.models.codec_config import fingerprint
from innerworld.models.tokens import stored_as
from innerworld.perception import ENCODERS, Tokenizer
from innerworld.testing.world_model import random_clip
from innerworld.types import Clip, Spec, each

MIXED = Spec({"pixels": (16, 24, 3), "speed": (3,), "touch": (16, 16, 1)}, 2)
PIXELS = Spec({"pixels": (16, 16, 3)}, 2)
WORLDS = {"mixed": MIXED, "pixels": PIXELS, "vector": Spec({"speed": (3,), "place": (4,)}, 2)}
BODY = {"dim": 16, "depth": 1, "heads": 2, "mlp": 16}
KINDS: dict[str, dict[str, Any]] = {
    "pca": {},
    "vq": {"vq": {"body": BODY, "book": {"codes": 32}}},
    "fsq": {"fsq": {"body": BODY}},
    "mae": {"mae": {"body": BODY}},
}
TINY = {"patch": 8, "width": 4, "steps": 2}


def build(kind: str, spec: Spec = MIXED, **change: Any) -> Codec:
    torch.manual_seed(0)
    return Codec(CodecConfig.model_validate(TINY | {"kind": kind} | KINDS[kind] | change), spec)


def run_of(folder: Path, kind: str, spec: Spec = PIXELS, seed: int = 0) -> str:
    """The run of a tokenizer that was prepared, if not taught."""
    torch.manual_seed(seed)
    leaf = ENCODERS[kind]
    settings = {**KINDS[kind].get(kind, {}), "patch": 8} | ({"width": 4} if kind != "fsq" else {})
    tokenizer = leaf(leaf.Config.model_validate(settings), spec)
    tokenizer.prepare(random_clip(spec, b=4, t=3, seed=seed))
    checkpoint.save(folder, tokenizer, None, 0, None)
    return str(folder)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("world", WORLDS)
def test_what_is_seen_becomes_tokens_and_comes_back(kind: str, world: str) -> None:
    spec, clip = WORLDS[world], random_clip(WORLDS[world], b=4, t=5)
    codec = build(kind, spec)
    codec.prepare(clip)
    numbers = sum(spec.obs[name][0] for name in spec.vectors())
    rest = numbers if codec.codes else math.ceil(numbers / codec.width)
    assert codec.grids == {"mixed": ((2, 3), (2, 2)), "pixels": ((2, 2),), "vector": ()}[world]
    assert codec.s == sum(y * x for y, x in codec.grids) + rest
    tokens = codec.look(clip.obs)
    assert tokens.shape == (4, 6, codec.s, codec.width) and tokens.dtype == torch.float32 and not tokens.requires_grad
    torch.testing.assert_close(codec.look(clip.at(2)), tokens[:, 2])
    shown = codec.show(tokens[:, 2])
    assert shown.keys() == spec.obs.keys()
    for name, value in shown.items():
        assert value.shape == (4, *spec.obs[name]) and value.is_floating_point()
        if name in spec.images():
            assert value.min() >= 0 and value.max() <= 1
        else:  # a vocabulary tells numbers in steps
            step = 2 * REACH / (codec.codes - 1) if codec.codes else 1e-5
            torch.testing.assert_close(value, clip.obs[name][:, 2], atol=2 * step, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_prepared_tokens_have_about_unit_variance(kind: str) -> None:
    codec, clip = build(kind), random_clip(MIXED, b=8, t=7)
    clip.obs["speed"] = 5 * clip.obs["speed"] + 100
    codec.prepare(clip)
    tokens = codec.look(clip.obs)
    pictures = tokens[:, :, :10].flatten(0, 2)
    assert bool((pictures[:, :].mean(dim=0).abs() < 0.3).all())
    deviation = pictures.std(dim=0)
    assert bool(((deviation > 0.5) & (deviation < 1.5)).all()), deviation
    numbers = tokens[:, :, 10:, 0] if codec.codes else tokens[:, :, 10, :3]
    assert 0.8 < float(numbers.std()) < 1.2 and abs(float(numbers.mean())) < 0.2


@pytest.mark.parametrize("kind", ["vq", "fsq"])
@pytest.mark.parametrize("world", WORLDS)
def test_tokens_of_a_vocabulary_and_their_indices_are_one(kind: str, world: str) -> None:
    codec, clip = build(kind, WORLDS[world]), random_clip(WORLDS[world], b=4, t=3)
    codec.prepare(clip)
    tokens = codec.look(clip.at(1))
    indices = codec.indices(tokens)
    assert indices.shape == tokens.shape[:2] and indices.dtype == torch.long
    assert indices.min() >= 0 and indices.max() < codec.codes
    torch.testing.assert_close(codec.lookup(indices), tokens)


@pytest.mark.parametrize("kind", ["pca", "mae"])
def test_indices_of_continuous_tokens_are_refused(kind: str) -> None:
    codec = build(kind)
    assert codec.codes == 0
    with pytest.raises(UserError, match=rf"the tokens of {kind} are continuous: choose codec\.kind=fsq or vq"):
        codec.indices(codec.look(random_clip(MIXED, b=1, t=1).at(0)))
    with pytest.raises(UserError, match="continuous"):
        codec.lookup(torch.zeros(1, codec.s, dtype=torch.long))


def test_pca_has_nothing_to_learn() -> None:
    codec, clip = build("pca"), random_clip(MIXED, b=4, t=3)
    assert codec.settled and not any(p.requires_grad for p in codec.parameters())
    before = codec.floor(clip)
    codec.prepare(clip)
    after = codec.floor(clip)
    assert before.keys() == {"pixels", "touch"} and all(after[name] > before[name] for name in before)
    state = {name: value.clone() for name, value in codec.state_dict().items()}
    assert codec.train().loss(clip) == {} and codec.told() == {}
    codec.after_step()
    assert all(torch.equal(value, state[name]) for name, value in codec.state_dict().items())


def test_the_floor_is_the_psnr_of_what_is_drawn_again() -> None:
    codec, clip = build("pca", PIXELS), random_clip(PIXELS, b=3, t=4)
    codec.prepare(clip)
    shown = codec.show(codec.look(clip.obs).flatten(0, 1))["pixels"]
    error = (shown - clip.obs["pixels"].flatten(0, 1) / 255).square().mean()
    assert codec.floor(clip)["pixels"] == pytest.approx(-10 * math.log10(float(error)), abs=1e-3)
    exact = build("pca", PIXELS, width=192)
    assert exact.floor(clip)["pixels"] > 60


@pytest.mark.parametrize("kind", ["vq", "fsq", "mae"])
def test_a_tokenizer_learns_for_some_steps_and_is_then_held_still(kind: str) -> None:
    codec, clip = build(kind, steps=3).train(), random_clip(MIXED, b=4, t=3)
    codec.prepare(clip)
    optimiser = torch.optim.AdamW(codec.parameters(), lr=1e-2, weight_decay=0.1)

    def step() -> dict[str, Tensor]:
        parts = codec.loss(clip)
        optimiser.zero_grad()
        if parts:
            torch.stack(list(parts.values())).sum().backward()
        optimiser.step()
        codec.after_step()
        return each(Tensor.clone, codec.state_dict())

    assert not codec.settled and "codec_pixels" in codec.loss(clip)
    assert bool(codec.told()) == bool(codec.codes)
    _, one, two, three = step(), step(), step(), step()
    moved = [name for name, value in one.items() if not torch.equal(value, two[name])]
    assert any("body" in name for name in moved) and {"shift", "spread", "taught"} <= set(moved)
    assert codec.settled and codec.loss(clip) == {} and codec.told() == {}
    assert all(torch.equal(value, three[name]) for name, value in two.items())
    again = build(kind, steps=3)
    again.load_state_dict(codec.state_dict())
    assert again.settled  # that it is held still is saved


def test_with_no_steps_it_stays_as_it_was_prepared() -> None:
    codec, clip = build("vq", steps=0).train(), random_clip(MIXED, b=4, t=3)
    before = codec.floor(clip)
    codec.prepare(clip)
    assert codec.settled and codec.loss(clip) == {} and not any(p.requires_grad for p in codec.parameters())
    assert all(floor > before[name] for name, floor in codec.floor(clip).items())


def test_gradients_pass_through_what_is_shown_while_statistics_move() -> None:
    codec, clip = build("mae").train(), random_clip(MIXED, b=2, t=2)
    codec.prepare(clip)
    tokens = codec.look(clip.at(0)).requires_grad_()
    shown = codec.show(tokens)["pixels"].mean()
    codec.loss(clip)
    shown.backward()
    assert tokens.grad is not None and bool(tokens.grad.any())


@pytest.mark.parametrize("kind", KINDS)
def test_a_borrowed_tokenizer_is_that_of_the_run_and_needs_it_no_more(kind: str, tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", kind)
    lent, clip = checkpoint.load(run, kind=Tokenizer), random_clip(PIXELS, b=4, t=3)
    codec = Codec(CodecConfig(checkpoint=run), PIXELS)
    assert codec.config.kind == kind and codec.config.origin == run and codec.config.checkpoint is None
    assert codec.config.fingerprint == fingerprint(lent) and codec.settled and codec.loss(clip) == {}
    codec.prepare(clip)
    shown, expected = (codec.show(codec.look(clip.at(0))), lent.decode(lent.encode(clip.at(0))))
    torch.testing.assert_close(shown["pixels"], expected["pixels"], atol=1e-4, rtol=0)
    again = Codec(codec.config, PIXELS)
    again.load_state_dict(codec.state_dict())
    assert again.config == codec.config and torch.equal(again.look(clip.obs), codec.look(clip.obs))
    assert CodecConfig.model_validate_json(codec.config.model_dump_json()) == codec.config


def test_a_borrowed_tokenizer_serves_every_picture_of_its_shape(tmp_path: Path) -> None:
    run, spec = run_of(tmp_path, "pca"), Spec({"left": (16, 16, 3), "right": (16, 16, 3)}, 1)
    codec = Codec(CodecConfig(checkpoint=run), spec)
    clip = random_clip(spec, b=2, t=1)
    swapped = {"left": clip.at(0)["right"], "right": clip.at(0)["left"]}
    one, two = codec.look(clip.at(0)), codec.look(swapped)
    assert torch.equal(one[:, :4], two[:, 4:])


def test_tokens_that_a_store_has_are_looked_up(tmp_path: Path) -> None:
    codec, clip = Codec(CodecConfig(checkpoint=run_of(tmp_path, "vq")), PIXELS), random_clip(PIXELS, b=2, t=1)
    codec.prepare(clip)
    tokenizer = checkpoint.load(tmp_path, kind=Tokenizer)
    ready = stored_as("pixels", codec.config.fingerprint)
    found = {ready: tokenizer.tokens(clip).detach().half()}
    torch.testing.assert_close(codec.look(found), codec.look(clip.obs), atol=1e-2, rtol=1e-2)
    assert torch.equal(codec.indices(codec.look(found)[:, 0]), codec.indices(codec.look(clip.at(0))))
    stored = Spec({"pixels": (16, 16, 3), ready: (4, 4)}, 2)
    assert codec.reads(stored) == [ready] and codec.reads(stored, pixels=True) == [ready, "pixels"]
    assert codec.reads(PIXELS) == ["pixels"] and build("pca", PIXELS).reads(stored) == ["pixels"]
    with pytest.raises(
        UserError, match=f"are of 0123456789ab, this model's tokenizer is {codec.config.fingerprint}: give codec"
    ):
        codec.reads(Spec({"pixels": (16, 16, 3), stored_as("pixels", "0123456789ab"): (4, 4)}, 2))


# ---------------------------------------------------------------------- what is refused


def test_frames_of_other_sizes_or_channels_are_refused() -> None:
    codec = build("pca", PIXELS)
    for shape in ((16, 24, 3), (16, 16, 1)):
        other = random_clip(Spec({"pixels": shape}, 2), b=1, t=1)
        with pytest.raises(UserError, match=r"this model was made for 16×16×3"):
            codec.look(other.obs)
    with pytest.raises(UserError, match="no sensor 'pixels' in what is seen"):
        codec.look({"speed": torch.zeros(1, 3)})


def test_a_picture_that_the_patch_does_not_divide_is_refused_or_resized() -> None:
    spec = Spec({"pixels": (18, 24, 3)}, 2)
    with pytest.raises(UserError, match=r"18×24 cannot be cut into patches of 8: .*image_size"):
        build("pca", spec)
    codec, clip = build("pca", spec, image_size=16), random_clip(spec, b=1, t=1)
    assert codec.grids == ((2, 2),) and codec.show(codec.look(clip.at(0)))["pixels"].shape == (1, 18, 24, 3)


def test_a_run_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no checkpoint in .*nowhere: give the folder of a run"):
        Codec(CodecConfig(checkpoint=str(tmp_path / "nowhere")), PIXELS)


def test_a_run_of_something_else_is_refused(tmp_path: Path) -> None:
    eyes = families.build("lejepa", families.config("lejepa", "tiny"), Spec({"pixels": (32, 32, 3)}, 1))
    checkpoint.save(tmp_path, eyes, None, 0, None)
    with pytest.raises(UserError, match="holds a 'lejepa', which is no Tokenizer: give another run"):
        Codec(CodecConfig(checkpoint=str(tmp_path)), PIXELS)


def test_a_tokenizer_of_other_pictures_is_refused(tmp_path: Path) -> None:
    run = run_of(tmp_path, "pca")
    with pytest.raises(UserError, match=r"'touch' shows 16×16×1 .* was made for 16×16×3: train one on such pictures"):
        Codec(CodecConfig(checkpoint=run), Spec({"touch": (16, 16, 1)}, 1))


def test_a_tokenizer_with_another_hash_is_refused(tmp_path: Path) -> None:
    one, two = run_of(tmp_path / "one", "fsq"), run_of(tmp_path / "two", "fsq", seed=1)
    own = Codec(CodecConfig(checkpoint=one), PIXELS).config.fingerprint
    Codec(CodecConfig(checkpoint=one, fingerprint=own), PIXELS)  # the right one is taken
    with pytest.raises(UserError, match=f"holds the tokenizer [0-9a-f]{{12}}, this model was made for {own}"):
        Codec(CodecConfig(checkpoint=two, fingerprint=own), PIXELS)


def test_a_borrowed_tokenizer_is_never_replaced_by_a_drawn_one(tmp_path: Path) -> None:
    config = Codec(CodecConfig(checkpoint=run_of(tmp_path, "fsq")), PIXELS).config
    without, clip = Codec(config, PIXELS), random_clip(PIXELS, b=1, t=1)  # the settings, but no weights
    asks = [
        lambda: without.look(clip.obs),
        lambda: without.show(torch.zeros(1, without.s, without.width)),
        lambda: without.prepare(clip),
    ]
    for ask in asks:
        with pytest.raises(UserError, match=rf"the tokenizer {config.fingerprint} is missing, .*codec\.checkpoint="):
            ask()
    other = Codec(CodecConfig(checkpoint=run_of(tmp_path / "other", "fsq", seed=1)), PIXELS)
    without.load_state_dict(other.state_dict())
    own = config.fingerprint
    with pytest.raises(UserError, match=f"the weights are of the tokenizer .*, this model was made for {own}"):
        without.look(clip.obs)


def test_taught_along_it_learns_in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    clip: Clip = random_clip(PIXELS, b=2, t=1)
    monkeypatch.setattr("innerworld.models.codec.rows_of_all", lambda n: 2 * n)
    with pytest.raises(
        UserError, match=r"a fsq is taught along in one process only: train it first \(innerworld train"
    ):
        build("fsq", PIXELS).prepare(clip)
    build("pca", PIXELS).prepare(clip)
