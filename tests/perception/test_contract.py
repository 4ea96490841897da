"""Every encoder keeps the contract; the registry is the matrix."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.perception import ENCODERS, Encoder, Tokenizer
from innerworld.perception.vjepa2 import VJEPA2Config, nearness
from innerworld.testing import check_encoder
from innerworld.testing.world_model import random_clip
from innerworld.types import Clip, Spec

SPEC = Spec({"pixels": (32, 32, 3), "speed": (2,)}, 2)
# A check learns one clip of noise by heart: always the same window of it, and for LeJEPA, whose views must have
# something in common to agree on, nearly the same.
EASY: dict[str, dict[str, Any]] = {
    "ijepa": {"crop": None},
    "vjepa": {"crop": None},
    "vjepa2": {"crop": None},
    "lejepa": {
        "global_scale": (0.9, 1.0),
        "local_scale": (0.6, 0.9),
        "flip": False,
        "colour": 0.0,
        "gray": 0.0,
        "weight": 0.5,
    },
}
TINY = [(name, preset) for name, kind in ENCODERS.items() for preset in kind.presets if preset.startswith("tiny")]
SLOW_COPIES = [pair for pair in TINY if pair[0] != "lejepa" and not issubclass(ENCODERS[pair[0]], Tokenizer)]


def build(name: str, preset: str, spec: Spec = SPEC, **change: Any) -> Encoder:
    kind = ENCODERS[name]
    return kind(kind.presets[preset].model_copy(update=change), spec)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "preset"), TINY)
@pytest.mark.parametrize("shape", [(32, 32, 3), (24, 40, 1)])
def test_the_contract(name: str, preset: str, shape: tuple[int, ...]) -> None:
    spec = Spec({"pixels": shape}, 2)
    check_encoder(lambda spec: build(name, preset, spec, **EASY.get(name, {})), spec, overfit_steps=300)


@pytest.mark.parametrize(("name", "preset"), [(name, p) for name, kind in ENCODERS.items() for p in kind.presets])
def test_every_preset_can_be_built(name: str, preset: str) -> None:
    with torch.device("meta"):
        build(name, preset, Spec({"pixels": (224, 224, 3)}, 1))


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_a_configuration_survives_json(name: str) -> None:
    for config in ENCODERS[name].presets.values():
        assert type(config).model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(("name", "preset"), SLOW_COPIES)
def test_the_slow_copy_follows_and_is_not_trained(name: str, preset: str) -> None:
    torch.manual_seed(0)
    encoder = build(name, preset, momentum=(0.5, 1.0), momentum_steps=2)
    online, target = encoder.get_submodule("online"), encoder.get_submodule("target")
    assert not any(value.requires_grad for value in target.parameters())
    pairs = list(zip(online.parameters(), target.parameters(), strict=True))
    with torch.no_grad():
        for value, _ in pairs:
            value.add_(1)
    gap = [(value - slow).detach().clone() for value, slow in pairs]
    for share in (0.5, 0.375, 0.375):  # × 0.5, × 0.75, × 1
        encoder.after_step()
        for (value, slow), was in zip(pairs, gap, strict=True):
            torch.testing.assert_close(value - slow, was * share, atol=1e-5, rtol=1e-5)


def test_films_give_tokens_of_every_moment() -> None:
    clip = random_clip(SPEC, b=2, t=6)
    for name in ("vjepa", "vjepa2"):
        encoder = build(name, "tiny").eval()
        film = clip.obs["pixels"][:, :6]
        assert encoder.encode({"pixels": film}).shape == (2, 3 * 16, 96)
        assert encoder.encode({"pixels": film[:, 0]}).shape == (2, 16, 96)
        with pytest.raises(UserError, match="7 frames cannot be cut into tubelets of 2"):
            encoder.encode({"pixels": clip.obs["pixels"]})
        assert encoder.loss(clip)[0].isfinite()  # the seventh is not looked at


def test_a_frame_is_a_still_film_unless_pictures_have_their_embedding() -> None:
    frame = random_clip(SPEC, b=2, t=1).obs["pixels"][:, :1]
    for preset, same in (("tiny", True), ("tiny-2.1", False)):
        encoder = build("vjepa2", preset).eval()
        with torch.no_grad():
            still, picture = (
                encoder.encode({"pixels": frame.repeat(1, 2, 1, 1, 1)}),
                encoder.encode({"pixels": frame[:, 0]}),
            )
        assert torch.allclose(still, picture, atol=1e-5) is same


def test_only_what_is_seen_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoder that learns computes the context only, at each of its blocks."""
    encoder = build("vjepa2", "tiny")
    sizes: list[int] = []
    block = encoder.get_submodule("online.blocks.0")
    block.register_forward_hook(lambda module, given, out: sizes.append(out.shape[1]))
    encoder.loss(random_clip(SPEC, b=1, t=7))
    assert len(sizes) == 2 and max(sizes) < 4 * 16


def test_the_dense_weight_rises() -> None:
    clip = random_clip(SPEC, b=2, t=3)
    encoder = build("vjepa2", "tiny-2.1", dense_ramp=(1, 3))
    for share in (0, 0, 0.5, 1, 1):
        torch.manual_seed(0)
        loss, parts = encoder.loss(clip)
        torch.testing.assert_close(loss, parts["predict"] + 0.5 * share * parts["dense"])
        encoder.after_step()


def test_nearness_counts_from_the_nearest_hidden_token() -> None:
    found = nearness(torch.tensor([[0, 3, 12]]), torch.tensor([[5, 15]]), (1, 4, 4))
    assert found.tolist() == [pytest.approx([2**-0.25, 5**-0.25, 5**-0.25])]  # √2 and √5 away


def test_all_masks_may_share_a_token_as_the_released_trainer_has_it() -> None:
    encoder = build("vjepa2", "tiny", mask_index=(0, 0))
    encoder.loss(random_clip(SPEC, b=2, t=3))[0].backward()
    grad = encoder.get_parameter("predictor.mask_tokens").grad
    assert grad is not None and bool(grad[0].any()) and not bool(grad[1].any())


def test_v_jepas_power_and_variance() -> None:
    clip = random_clip(SPEC, b=2, t=3)
    found: dict[float, Tensor] = {}
    for variance in (0.0, 2.0):
        torch.manual_seed(0)
        loss, parts = build("vjepa", "tiny", variance=variance, power=2.0).loss(clip)
        torch.testing.assert_close(loss, parts["predict"] + variance * parts["variance"])
        found[variance] = parts["predict"]
    assert torch.equal(found[0.0], found[2.0])


def picture(*shape: int, **sensors: tuple[int, ...]) -> Spec:
    return Spec({"pixels": shape, **sensors}, 1)


@pytest.mark.parametrize(
    ("name", "spec", "change", "sentence"),
    [
        ("ijepa", picture(30, 32, 3), {}, "30×32 cannot be cut into patches of 8"),
        ("vjepa2", picture(30, 32, 3), {}, "30×32 cannot be cut into patches of 8"),
        ("ijepa", picture(8, 8, 3), {}, "tokens as context"),
        ("vjepa", picture(8, 8, 3), {}, "leaves no context of 1×1 tokens"),
        ("vjepa2", picture(8, 8, 3), {}, "leaves no context of 1×1 tokens"),
        ("vjepa2", picture(32, 32, 3), {"mask_index": (0,)}, "2 masks need as many entries of mask_index"),
        ("vjepa2", picture(32, 32, 3), {"mask_index": (0, 2)}, "mask token 2 was asked for, the predictor has 2"),
        ("ijepa", picture(32, 32, 3, other=(8, 8, 3)), {}, "name one as sight.sensor"),
        ("lejepa", Spec({"speed": (2,)}, 1), {}, r"here are \[\]"),
        ("lejepa", picture(32, 32, 3), {"pool": "class"}, "pool=class needs vit.class_token=true"),
        ("lejepa", picture(32, 32, 3), {"local_size": 20}, "20×20 cannot be cut into patches of 8"),
    ],
)
def test_what_cannot_be_learnt_is_said(name: str, spec: Spec, change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        build(name, "tiny", spec, **change).loss(random_clip(spec, b=2, t=3))


@pytest.mark.parametrize("name", ["vjepa", "vjepa2"])
def test_a_clip_shorter_than_a_tubelet_is_refused(name: str) -> None:
    short = Clip({"pixels": torch.zeros(2, 1, 32, 32, 3)}, torch.zeros(2, 0, 2), torch.zeros(2, 0), torch.zeros(2, 0))
    with pytest.raises(UserError, match="a clip of 1 frames is shorter than a tubelet of 2"):
        build(name, "tiny", Spec({"pixels": (32, 32, 3)}, 2)).loss(short)


@pytest.mark.parametrize("part", ["vit", "predictor"])
def test_narrow_heads_are_refused_when_built(part: str) -> None:
    config = ENCODERS["vjepa2"].presets["tiny"]
    assert isinstance(config, VJEPA2Config)
    narrow: Config = getattr(config, part).model_copy(update={"heads": 12})
    with pytest.raises(UserError, match="heads of 12 channels or more"):
        build("vjepa2", "tiny", **{part: narrow})


@pytest.mark.parametrize(("name", "preset"), TINY)
def test_in_bfloat16_the_loss_itself_stays_precise(name: str, preset: str) -> None:
    clip, found = random_clip(SPEC, b=2, t=3), []
    for enabled in (False, True):
        torch.manual_seed(0)
        encoder = build(name, preset)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            found.append(encoder.loss(clip)[0])
        found[-1].backward()
    assert found[1].dtype == torch.float32
    torch.testing.assert_close(found[1], found[0], rtol=0.02, atol=0)
