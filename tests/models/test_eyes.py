"""Borrowed eyes: whose they are, that they see the same, learn or do not, and are saved with the model."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from innerworld import checkpoint
from innerworld.data import Store
from innerworld.errors import UserError
from innerworld.models.eyes import BorrowConfig, BorrowedEyes
from innerworld.models.jepa import JEPA, JEPAConfig
from innerworld.models.rssm import RSSM, RSSMConfig
from innerworld.models.tokens import look, stored_as
from innerworld.nn.sensors import image_in
from innerworld.nn.vision import ViTConfig
from innerworld.perception import VJEPA2, Eyes, LeJEPA, pretrained
from innerworld.perception.layouts import layout
from innerworld.perception.pretrained import EyesConfig as PublishedConfig
from innerworld.perception.vjepa2 import VJEPA2Config
from innerworld.recipes.lesson import Lesson, read, teach
from innerworld.testing import check_world_model
from innerworld.testing.world_model import random_clip
from innerworld.training import TrainConfig
from innerworld.types import Spec
from innerworld.world import WorldModel

SPEC = Spec({"pixels": (16, 16, 3)}, 2)
MIXED = Spec({"pixels": (16, 24, 3), "speed": (3,), "touch": (16, 16, 1)}, 2)
VIT = ViTConfig(dim=24, depth=1, heads=2, mlp=32, patch=8)
TINY = {"latent": 8, "hidden": 16, "slices": 16}
SMALL: dict[str, Any] = {"deter": 16, "hidden": 16, "stoch": 4, "units": 16, "layers": 1, "blocks": 2, "mults": [1, 2]}
SMALL |= {"depth": 4, "image": "strided", "image_size": 8}
WORLDS = pytest.mark.parametrize("family", ["jepa", "rssm"])
LOOKED_AT = 16  # side at which eyes see here, beside the 8 at which the RSSM paints


def world(family: str, spec: Spec = SPEC, /, **eyes: Any) -> WorldModel:
    """A world model of the family that has borrowed these eyes."""
    torch.manual_seed(0)
    if family == "jepa":
        return JEPA(JEPAConfig.model_validate(TINY | {"eyes": eyes}), spec)
    return RSSM(RSSMConfig.model_validate(SMALL | {"eyes": {"size": LOOKED_AT} | eyes}), spec)


def jepa(spec: Spec = SPEC, /, **eyes: Any) -> JEPA:
    model = world("jepa", spec, **eyes)
    assert isinstance(model, JEPA)
    return model


def all_eyes(model: WorldModel) -> list[BorrowedEyes]:
    return [module for module in model.modules() if isinstance(module, BorrowedEyes)]


def eyes_of(model: WorldModel) -> BorrowedEyes:
    return all_eyes(model)[0]


def borrowed(model: WorldModel) -> BorrowConfig:
    assert isinstance(model.config, JEPAConfig | RSSMConfig)
    return model.config.eyes


@pytest.fixture(scope="module")
def encoder() -> VJEPA2:
    """Whose slow copy is not what learns."""
    torch.manual_seed(1)
    tiny = VJEPA2.presets["tiny"]
    encoder = VJEPA2(VJEPA2Config.model_validate(tiny.model_dump() | {"vit": VIT.model_dump() | {"tubelet": 2}}), SPEC)
    for value in encoder.online.parameters():
        nn.init.normal_(value, std=0.1)
    return encoder.eval()


@pytest.fixture
def run(encoder: VJEPA2, tmp_path: Path) -> Path:
    checkpoint.save(tmp_path / "eyes", encoder, None, 3, None)
    return tmp_path / "eyes"


@pytest.mark.parametrize("spec", [SPEC, MIXED], ids=["one sensor", "mixed"])
@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "learning"])
@pytest.mark.parametrize("pool", ["mean", "attentive"])
def test_a_jepa_with_borrowed_eyes_keeps_the_contract(pool: str, frozen: bool, spec: Spec) -> None:
    config = JEPAConfig.model_validate(TINY | {"eyes": {"vit": VIT, "frozen": frozen, "pool": pool}})
    check_world_model(lambda spec: JEPA(config, spec), spec)


@pytest.mark.slow
@pytest.mark.parametrize(("spec", "frozen", "pool"), [(SPEC, True, "attentive"), (MIXED, False, "mean")])
def test_an_rssm_with_borrowed_eyes_keeps_the_contract(spec: Spec, frozen: bool, pool: str) -> None:
    eyes = {"vit": VIT, "frozen": frozen, "pool": pool, "size": LOOKED_AT}
    # Choices would be the same for all that random eyes see.
    config = RSSMConfig.model_validate(SMALL | {"eyes": eyes, "latent": "gaussian"})
    check_world_model(lambda spec: RSSM(config, spec), spec)
    model = RSSM(config, spec)
    assert len(all_eyes(model)) == len(spec.images()) and not hasattr(model.encoder, "conv")


@WORLDS
def test_fresh_eyes_of_every_family(family: str) -> None:
    for name in ("ijepa", "lejepa", "vjepa", "vjepa2"):
        model = world(family, family=name, preset="tiny", frozen=False)
        found = borrowed(model).vit
        assert found is not None and eyes_of(model).width == found.dim == 96
        assert len(model.features(model.encode(random_clip(SPEC, 2, 1).at(0)))) == 2
    default = borrowed(world(family, family="lejepa")).vit
    assert default is not None  # the tiny preset's
    assert default.model_dump() == LeJEPA.presets["tiny"].model_dump()["vit"]


def test_frozen_eyes_of_a_run_see_what_its_encoder_sees(run: Path, encoder: VJEPA2) -> None:
    eyes = eyes_of(jepa(checkpoint=str(run)))
    frames = random_clip(SPEC, 2, 1).at(0)["pixels"]
    with torch.no_grad():
        seen, wanted = eyes(frames.permute(0, 3, 1, 2) / 255), encoder.encode({"pixels": frames}).mean(dim=1)
    torch.testing.assert_close(seen, wanted)


def test_eyes_that_learn_begin_with_what_learnt(run: Path, encoder: VJEPA2) -> None:
    for frozen, part in ((True, encoder.target), (False, encoder.online)):
        state = eyes_of(jepa(checkpoint=str(run), frozen=frozen)).vit.state_dict()
        assert all(torch.equal(value, state[name]) for name, value in part.state_dict().items())


@WORLDS
@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_eyes_get_no_gradient_and_stay_in_eval_mode(frozen: bool, family: str) -> None:
    model = world(family, vit=VIT, frozen=frozen).train()
    before = {name: value.clone() for name, value in eyes_of(model).state_dict().items()}
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)
    model.loss(random_clip(SPEC, 4, 3))[0].backward()
    optimiser.step()
    vit = eyes_of(model).vit
    assert model.training and vit.training is not frozen
    assert all((p.grad is None) is frozen for p in vit.parameters())
    after = eyes_of(model).state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items()) is frozen


@WORLDS
@pytest.mark.parametrize("frozen", [True, False])
def test_a_saved_model_needs_no_other_folder(frozen: bool, family: str, run: Path, tmp_path: Path) -> None:
    model = world(family, checkpoint=str(run), frozen=frozen).eval()
    checkpoint.save(tmp_path / "model", model, None, 0, None)
    shutil.rmtree(run)
    again = checkpoint.load(tmp_path / "model", kind=WorldModel)
    assert again.config == model.config and again.state_dict().keys() == model.state_dict().keys()
    assert borrowed(again).origin == str(run)
    clip = random_clip(SPEC, 2, 2)
    with torch.no_grad():
        assert torch.equal(again.impressions(clip), model.impressions(clip))


def test_a_lesson_goes_on_without_the_run_that_the_eyes_came_from(run: Path, tmp_path: Path) -> None:
    store = Store.create(tmp_path / "data", SPEC)
    for seed in range(4):
        store.add(random_clip(SPEC, 1, 6, seed))
    train = TrainConfig(steps=1, device="cpu")
    lesson = Lesson(data=str(store.path), batch=4, length=3, workers=0, train=train)
    lesson = lesson.model_copy(update={"model": TINY | {"eyes": {"checkpoint": str(run)}}})
    first = teach(lesson, tmp_path / "run", quiet=True)
    shutil.rmtree(run)
    noted = read(tmp_path / "run")
    assert noted.model["eyes"]["checkpoint"] is None and noted.model["eyes"]["origin"] == str(run)
    longer = noted.model_copy(update={"train": train.model_copy(update={"steps": 2})})
    second = teach(longer, tmp_path / "run", quiet=True, resume=True)
    for name, value in first.eyes.image_eyes.state_dict().items():  # pyright: ignore
        assert torch.equal(value, second.state_dict()[f"eyes.image_eyes.{name}"])


@pytest.mark.parametrize(
    ("spec", "eyes", "sentence"),
    [
        (SPEC, {"family": "vjepa3"}, "unknown eyes 'vjepa3'. Did you mean 'vjepa'"),
        (SPEC, {"family": "vjepa2", "preset": "tinny"}, "unknown preset of vjepa2 'tinny'. Did you mean 'tiny'"),
        (SPEC, {"preset": "tiny"}, "eyes.preset is a preset of eyes.family"),
        (SPEC, {"family": "ijepa", "checkpoint": "x"}, "leave out eyes.family"),
        (SPEC, {"checkpoint": "nowhere"}, "no folder nowhere"),
        (Spec({"speed": (3,)}, 2), {"family": "vjepa2"}, "eyes need an image to see"),
        (Spec({"pixels": (20, 16, 3)}, 2), {"vit": VIT}, "20×16 cannot be cut into patches of 8"),
        (Spec({"touch": (16, 16, 1)}, 2), {"vit": VIT, "pixels": "imagenet"}, "has 1 channels, these eyes see 3"),
    ],
)
def test_eyes_that_cannot_be_borrowed(spec: Spec, eyes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        jepa(spec, **eyes)


def test_a_run_of_no_encoder_and_other_channels_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="sees 3 channels, the picture has 1"):
        jepa(Spec({"pixels": (16, 16, 1)}, 2), checkpoint=str(run))
    checkpoint.save(tmp_path / "jepa", jepa(), None, 0, None)
    with pytest.raises(UserError, match="holds a 'jepa', which is no Encoder"):
        jepa(checkpoint=str(tmp_path / "jepa"))


def test_published_eyes_are_read_from_a_folder(tmp_path: Path) -> None:
    """In the layout of transformers, with random weights."""
    names = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 40}
    config = {"model_type": "ijepa", "patch_size": 8, "image_size": 24, "layer_norm_eps": 1e-6, **names}
    plan, _ = layout(config, {})
    state = Eyes(PublishedConfig(vit=plan.vit), SPEC).state_dict()
    weights = {}
    for theirs, ours in plan.names.items():
        name, _, part = ours.partition("#")
        parts = sum(other.partition("#")[0] == name for other in plan.names.values())
        value = torch.randn_like(state[name]).chunk(parts)[int(part or 0)]
        weights[theirs] = (value.flatten(0, 1)[None] if name == "vit.table" else value).contiguous()
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(weights, tmp_path / "model.safetensors")

    model = jepa(checkpoint=str(tmp_path))
    assert isinstance(model.config, JEPAConfig)
    assert (model.config.eyes.pixels, model.config.eyes.size) == ("imagenet", 24)  # as it is used to
    found, wanted = eyes_of(model).vit.state_dict(), pretrained(tmp_path).vit.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in wanted.items())
    frames = random_clip(SPEC, 2, 1).at(0)
    seen = pretrained(tmp_path, SPEC).encode(frames).mean(dim=1)
    torch.testing.assert_close(eyes_of(model)(image_in(frames["pixels"], 24)), seen)


def test_an_rssm_reads_tokens_that_a_store_holds_and_the_pictures_it_paints(run: Path) -> None:
    model = world("rssm", checkpoint=str(run))
    own = stored_as("pixels", borrowed(model).fingerprint)
    assert model.reads(Spec({"pixels": (16, 16, 3), own: (4, 24)}, 2)) == [own, "pixels"]
    assert model.reads(SPEC) == ["pixels"]
    assert world("rssm", vit=VIT, frozen=False).reads(Spec({"pixels": (16, 16, 3), own: (4, 24)}, 2)) == ["pixels"]
    clip = random_clip(SPEC, 2, 3)
    with torch.no_grad():
        tokens = look(eyes_of(model), clip.obs, "pixels")
        ready = replace(clip, obs={**clip.obs, own: tokens.half()})
        torch.testing.assert_close(model.impressions(ready), model.impressions(clip), rtol=1e-2, atol=1e-2)
        assert not torch.equal(
            model.watch(replace(clip, obs={**clip.obs, own: 0 * tokens}))["logits"], model.watch(clip)["logits"]
        )


def test_pictures_are_seen_at_the_size_that_is_asked_for() -> None:
    big = Spec({"pixels": (32, 32, 3)}, 2)
    for config, size in (({"image_size": 16}, 16), ({"image_size": 16, "eyes_size": 8}, 8), ({}, None)):
        eyes = BorrowConfig(vit=VIT, size=config.pop("eyes_size", None))
        model = JEPA(JEPAConfig.model_validate(TINY | config | {"eyes": eyes}), big)
        assert model.eyes.size == size
        model.encode(random_clip(big, 2, 1).at(0))
