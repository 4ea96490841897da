"""DINO-WM: its size, that imagining fast is imagining, what its terms teach, and that its eyes never learn."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from innerworld.errors import UserError
from innerworld.models.dino_wm import TOKENS, DinoWM, DinoWMConfig
from innerworld.nn.vision import sized
from innerworld.testing.world_model import random_clip
from innerworld.types import Spec, State, each, random_actions
from innerworld.world import WorldModel, at

SPEC = Spec({"pixels": (16, 16, 3), "speed": (3,)}, 2)
EYES = {"vit": {"dim": 24, "depth": 1, "heads": 2, "mlp": 32, "patch": 8}}
TINY: dict[str, Any] = {"eyes": EYES, "depth": 2, "heads": 2, "head_dim": 12, "mlp": 32, "dropout": 0.0}
KINDS = pytest.mark.parametrize(
    "kind",
    [{}, {"actions": "adaln", "positions": "rope"}, {"history": 1}, {"history": 6, "positions": "rope"}],
    ids=["published", "steered and rotary", "no history", "long history"],
)


def build(spec: Spec = SPEC, **settings: Any) -> DinoWM:
    torch.manual_seed(0)
    return DinoWM(DinoWMConfig.model_validate(TINY | settings), spec).eval()


def believed(model: DinoWM, t: int = 4, b: int = 2) -> State:
    return at(model.watch(random_clip(model.spec, b, t)), t)


# ---------------------------------------------------------------------- size


# 196 patches in 3 frames have places of 384 + 10 (action) + 10 (state) numbers; a block has two LayerNorms, 3 · 16 · 64
# columns of queries, keys and values without bias, the way back, and an MLP of 2048; at the end a LayerNorm. An action
# has 10 numbers, a state 4.
BLOCK = 4 * 404 + 404 * 3072 + (1024 + 1) * 404 + (404 + 1) * 2048 + (2048 + 1) * 404
PUBLISHED = 3 * 196 * 404 + 6 * BLOCK + 2 * 404 + (10 + 1) * 10 + (4 + 1) * 10


@pytest.mark.parametrize(
    ("preset", "proprio", "trained"),
    [("dino_wm", True, PUBLISHED), ("dino_wm", False, 19_624_930), ("jepa_wm", False, 16_114_944)],
)
def test_the_predictor_is_as_large_as_published(preset: str, proprio: bool, trained: int) -> None:
    assert PUBLISHED == 20_122_760
    config = DinoWM.presets[preset].model_dump()
    vit = sized("small", patch=14, positions="table", table=(37, 37), class_token=True).model_dump()
    config["eyes"] |= {"checkpoint": None, "vit": vit, "pixels": "imagenet"}
    spec = Spec({"pixels": (224, 224, 3)} | ({"state": (4,)} if proprio else {}), 10)
    with torch.device("meta"):
        model = DinoWM(DinoWMConfig.model_validate(config), spec)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == trained
    state = model.encode({name: torch.empty(1, *shape, device="meta") for name, shape in spec.obs.items()})
    side = model.config.model_dump()["eyes"]["size"] // 14
    assert state["z"].shape == (1, side**2, model.seen + (10 if proprio else 0))


# ---------------------------------------------------------------------- imagining


@KINDS
def test_imagining_fast_is_predicting_step_by_step(kind: dict[str, Any]) -> None:
    """From a first look, a short past and a full one: candidates that share it are as if each had its own."""
    model = build(**kind)
    actions = random_actions(SPEC, (2, 3, 7), torch.Generator().manual_seed(1))
    with torch.no_grad():
        for t in (0, 1, 4):
            state = believed(model, max(t, 1)) if t else model.encode(random_clip(SPEC, 2, 1).at(0))
            fast, slow = model.imagine(state, actions)["z"], WorldModel.imagine(model, state, actions)["z"]
            assert (fast - slow).abs().max() <= 1e-5, f"after {t} steps"


@KINDS
def test_rows_may_have_pasts_of_different_length(kind: dict[str, Any]) -> None:
    """As an agent's have, when one of its worlds begins anew."""
    model = build(**kind)
    actions = random_actions(SPEC, (2, 3, 5), torch.Generator().manual_seed(1))
    with torch.no_grad():
        old, fresh = believed(model), model.encode(random_clip(SPEC, 2, 1).at(0))
        mixed = {name: torch.stack([old[name][0], fresh[name][1]]) for name in old}
        together = model.imagine(mixed, actions)["z"]
        for row, state in ((0, old), (1, fresh)):
            alone = model.imagine(each(lambda v, row=row: v[row : row + 1], state), actions[row : row + 1])["z"]
            assert (together[row : row + 1] - alone).abs().max() <= 1e-5
        assert (together - WorldModel.imagine(model, mixed, actions)["z"]).abs().max() <= 1e-5


def test_many_candidates_are_imagined_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model, actions = build(), random_actions(SPEC, (2, 7, 3), torch.Generator().manual_seed(1))
    assert TOKENS > 1000
    with torch.no_grad():
        whole = model.imagine(believed(model), actions)["z"]
        monkeypatch.setattr("innerworld.models.dino_wm.TOKENS", 3 * 2 * 4 * 3)  # candidates, rows, tokens, frames
        parts = model.imagine(believed(model), actions)["z"]
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=1e-5)


@KINDS
def test_a_gradient_reaches_the_actions(kind: dict[str, Any]) -> None:
    model = build(**kind)
    actions = random_actions(SPEC, (2, 2, 4), torch.Generator().manual_seed(1)).requires_grad_()
    model.imagine(each(Tensor.detach, believed(model)), actions)["z"][:, :, -1].square().mean().backward()
    assert actions.grad is not None and bool(
        (actions.grad.abs().amax(dim=-1)[:, :, -min(model_history(model), 4) :] > 0).all()
    )


def model_history(model: DinoWM) -> int:
    return model.config.model_dump()["history"]


def test_what_lies_before_the_window_is_forgotten() -> None:
    model, clip = build(history=2), random_clip(SPEC, 1, 4)
    with torch.no_grad():
        first = model.predict(at(model.watch(clip), 3), clip.action[:, 3])["z"]
        late = model.predict(at(model.watch(clip.cut(2, 2)), 1), clip.action[:, 3])["z"]
    torch.testing.assert_close(first, late)


# ---------------------------------------------------------------------- learning


@pytest.mark.parametrize("length", [1, 2, 3, 7])
@KINDS
def test_clips_shorter_and_longer_than_the_history(kind: dict[str, Any], length: int) -> None:
    model = build(**kind, rollout=2)
    loss, parts = model.loss(random_clip(SPEC, 2, length))
    assert bool(loss.isfinite()) and set(parts) == {"predict", "rollout"}
    torch.testing.assert_close(loss, parts["predict"] + parts["rollout"])


def test_the_loss_is_the_error_of_the_next_frame() -> None:
    model, clip = build(), random_clip(SPEC, 2, 3)
    with torch.no_grad():
        states = model.watch(clip)
        wanted = [
            (model.predict(at(states, t), clip.action[:, t])["z"] - states["z"][:, t + 1]).square().mean()
            for t in range(3)
        ]
        torch.testing.assert_close(model.loss(clip)[1]["predict"], torch.stack(wanted).mean())


def test_the_rollout_is_the_error_of_imagining() -> None:
    model, clip = build(rollout=3, history=2), random_clip(SPEC, 2, 3)  # only one moment to begin at
    with torch.no_grad():
        states = model.watch(clip)
        imagined = model.imagine(at(states, 0), clip.action[:, None])["z"][:, 0]
        wanted = (imagined - states["z"][:, 1:]).square().mean()
        torch.testing.assert_close(model.loss(clip)[1]["rollout"], wanted)


def test_eyes_do_not_learn_and_targets_do_not_come_to_meet() -> None:
    model = build().train()
    model.loss(random_clip(SPEC, 2, 3))[0].backward()
    assert all(p.grad is None for p in model.eyes.parameters())
    assert model.proprio is not None and model.proprio.weight.grad is not None
    before = model.proprio.weight.grad.clone()
    model.zero_grad()
    z = model._look(random_clip(SPEC, 2, 3).obs)
    guess = model.predictor(z[:, :-1], random_clip(SPEC, 2, 3).action)[0]
    (guess - z[:, 1:]).square().mean().backward()
    assert not torch.allclose(before, model.proprio.weight.grad)  # what it would be if they did


def test_nobody_feels_the_decoder() -> None:
    clip = random_clip(SPEC, 2, 3)
    grads = []
    for decoder in (0, 4):
        model = build(decoder=decoder)
        model.loss(clip)[0].backward()
        grads.append([p.grad for p in model.predictor.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_the_decoder_learns_to_paint() -> None:
    model, clip = build(decoder=8), random_clip(SPEC, 1, 1)
    frames = clip.obs["pixels"]
    frames[:] = 255
    frames[:, :, :8] = 0
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        model.loss(clip)[0].backward()
        optimiser.step()
    shown = model.decode(model.encode(clip.at(0)))["pixels"]
    assert shown.shape == (1, 16, 16, 3) and shown[:, :6].mean() < 0.2 and shown[:, 10:].mean() > 0.8
    assert model.card.decodes and not build().card.decodes


# ---------------------------------------------------------------------- what does not fit


@pytest.mark.parametrize(
    ("shown", "sentence"),
    [
        (
            Spec({"pixels": (24, 16, 3), "speed": (3,)}, 2),
            "'pixels' is 24×16×3 (y, x, channels), this",
        ),
        (Spec({"pixels": (16, 16, 1), "speed": (3,)}, 2), "'pixels' is 16×16×1"),
        (Spec({"pixels": (16, 16, 3), "speed": (4,)}, 2), "'speed' has 4 numbers, this model was made for 3"),
        (Spec({"pixels": (16, 16, 3)}, 2), "no sensor 'speed' in what is seen: there are pixels"),
        (Spec({"speed": (3,)}, 2), "no sensor 'pixels'"),
    ],
)
def test_a_goal_of_another_camera_is_named(shown: Spec, sentence: str) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)):
        build().encode(random_clip(shown, 2, 1).at(0))


def test_actions_of_another_robot_are_named() -> None:
    model, other = build(), random_clip(Spec(SPEC.obs, 3), 2, 2)
    state = model.encode(other.at(0))
    for act in (
        lambda: model.predict(state, other.action[:, 0]),
        lambda: model.imagine(state, other.action[:, None]),
        lambda: model.loss(other),
    ):
        with pytest.raises(UserError, match="an action has 3 numbers, this model was made for 2"):
            act()


# ---------------------------------------------------------------------- energy and sensors


def test_alpha_weighs_the_vector_sensors() -> None:
    one, two = random_clip(SPEC, 2, 1).at(0), random_clip(SPEC, 2, 1).at(0)
    two["speed"] = two["speed"] + 1.0
    found = []
    for alpha in (0.0, 1.0, 2.0):
        model = build(alpha=alpha)
        with torch.no_grad():
            found.append(model.energy(model.encode(one), model.encode(two)))
    assert found[0].max() == 0 and bool((found[1] > 0).all())
    torch.testing.assert_close(found[2], 2 * found[1])


def test_vector_sensors_can_be_left_alone() -> None:
    model, obs = build(proprio_dim=0), random_clip(SPEC, 2, 1).at(0)
    assert model.proprio is None and model.encode(obs)["z"].shape == (2, 4, 24)


def test_eyes_are_small_fresh_ones_unless_named() -> None:
    assert build(eyes={}).seen == 96
    assert build(eyes={"size": 32}).encode(random_clip(SPEC, 1, 1).at(0))["z"].shape == (1, 16, 106)


def test_a_film_without_actions_is_learnt_from() -> None:
    spec = Spec({"pixels": (16, 16, 3)}, 0)
    for kind in ({}, {"actions": "adaln"}):
        loss, _ = build(spec, **kind).loss(random_clip(spec, 2, 3))
        assert bool(loss.isfinite())


@pytest.mark.parametrize(
    ("spec", "settings", "sentence"),
    [
        (Spec({"speed": (3,)}, 2), {}, "eyes need an image to see"),
        (SPEC, {"eyes": EYES | {"frozen": False}}, "leave eyes.frozen and eyes.pool"),
        (SPEC, {"eyes": EYES | {"pool": "attentive"}}, "leave eyes.frozen and eyes.pool"),
        (SPEC, {"positions": "rope", "head_dim": 8}, "12 channels or more"),
        (Spec({"pixels": (20, 16, 3)}, 2), {}, "cannot be cut into patches"),
    ],
)
def test_what_cannot_be_built(spec: Spec, settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        build(spec, **settings)
