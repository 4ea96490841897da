"""V-JEPA 2-AC: the loss as published, cached rollouts, the robot's state in imagination, sizes that do not fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from innerworld.agent import goal_cost
from innerworld.errors import UserError
from innerworld.models.vjepa2_ac import VJEPA2AC, VJEPA2ACConfig
from innerworld.nn.vision import ViTConfig
from innerworld.plan import CEM, Limits
from innerworld.plan.plan import cold, generators
from innerworld.testing import check_world_model
from innerworld.testing.world_model import random_clip
from innerworld.types import Clip, Spec, State, random_actions
from innerworld.world import WorldModel, at

VIT = ViTConfig(dim=24, depth=1, heads=2, mlp=32, patch=8, tubelet=2)
TINY: dict[str, Any] = {"eyes": {"vit": VIT}, "dim": 24, "depth": 2, "heads": 2, "mlp": 48, "window": 4}
ARM = Spec({"pixels": (16, 16, 3), "pose": (7,)}, 7)
CAMERAS = Spec({"left": (16, 24, 3), "wrist": (16, 16, 3), "joints": (3,), "where": (6,)}, 3)


def tiny(spec: Spec = ARM, **other: Any) -> VJEPA2AC:
    torch.manual_seed(0)
    model = VJEPA2AC(VJEPA2ACConfig.model_validate(TINY | other), spec)
    for p in model.predictor.parameters():
        if p.ndim > 1:
            torch.nn.init.normal_(p, std=0.2)  # so that what goes in is felt in what comes out
    return model


@pytest.mark.parametrize(
    ("spec", "other"),
    [
        (ARM, {"state_rule": "pose"}),
        (ARM, {"state_rule": "pose", "remember": False, "pairing": "vjepa2", "rope_grid": 4}),
        (ARM, {"state_rule": "add", "window": 1, "rollout_steps": 3}),
        (ARM, {"state_rule": "target", "action_low": [-2.0], "action_high": [3.0], "window": 20}),
        (CAMERAS, {"extrinsics": "where", "state_rule": "target", "residual": True, "standardise": True}),
        (Spec({"pixels": (16, 16, 3)}, 0), {"standardise": True}),
        (Spec({"pixels": (16, 16, 1)}, 4, discrete=True), {"rollout": 0.0}),
    ],
    ids=["pose", "as published", "window 1", "targets", "two cameras", "film", "choices"],
)
def test_it_keeps_the_contract(spec: Spec, other: dict[str, Any]) -> None:
    config = VJEPA2ACConfig.model_validate(TINY | other)
    check_world_model(lambda spec: VJEPA2AC(config, spec), spec)


# ---------------------------------------------------------------------- what is seen


@torch.no_grad()
def test_a_frame_is_seen_alone_as_a_pair_of_itself_and_normed() -> None:
    model, clip = tiny().eval(), random_clip(ARM, 2, 3)
    seen = model.watch(clip)["z"]
    frames = clip.obs["pixels"].flatten(0, 1).permute(0, 3, 1, 2).float() / 255
    pair = torch.stack([frames, frames], dim=2) * 2 - 1  # b c t y x
    tokens = model.eyes[0].vit(pair)  # pyright: ignore
    assert tokens.shape == (8, 4, 24)
    expected = (tokens - tokens.mean(-1, keepdim=True)) / (tokens.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(seen.flatten(0, 1), expected, rtol=0, atol=1e-5)


def test_the_eyes_do_not_learn() -> None:
    model = tiny()
    model.loss(random_clip(ARM, 2, 3))[0].backward()
    assert all(p.grad is None and not p.requires_grad for p in model.eyes.parameters())
    assert all(p.grad is not None for p in model.predictor.parameters())


# ---------------------------------------------------------------------- the loss


def published(model: VJEPA2AC, seen: State, action: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """As the released trainer computes it: no cache, the context of the rollout grown and seen anew at each step."""
    z, pose = seen["z"], seen["pose"]
    nothing = seen["extrinsics"]

    def predict(context: Tensor) -> Tensor:
        t = context.shape[1]
        guess = model.predictor(context, action[:, :t], pose[:, :t], nothing[:, :t])
        return F.layer_norm(guess, guess.shape[-1:])

    one = predict(z[:, :-1])
    context = torch.cat([z[:, :1], one[:, :1]], dim=1)  # the first guess by teacher forcing, with its gradient
    for _ in range(steps - 1):
        context = torch.cat([context, predict(context)[:, -1:]], dim=1)
    rolled = context[:, 1 : steps + 1]
    return (one - z[:, 1:]).abs().mean(), (rolled - z[:, 1 : steps + 1]).abs().mean()


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("pairing", ["vjepa2", "standard"])
def test_the_losses_and_their_gradients_are_the_published_ones(pairing: str, steps: int) -> None:
    model = tiny(pairing=pairing, rollout_steps=steps, window=5).double()
    rng = torch.Generator().manual_seed(1)
    z, pose, action = (
        torch.randn(2, *shape, generator=rng, dtype=torch.float64) for shape in ((6, 4, 24), (6, 7), (5, 7))
    )
    seen = {"z": z, "pose": pose, "extrinsics": torch.zeros(2, 6, 0, dtype=torch.float64)}
    found, expected = model.errors(seen, action), published(model, seen, action, steps)
    for value, wanted in zip((found["teacher"], found["rollout"]), expected, strict=True):
        torch.testing.assert_close(value, wanted, rtol=0, atol=1e-9)
    weights = list(model.predictor.parameters())
    pairs = (torch.autograd.grad(total, weights) for total in (found["rollout"], expected[1]))
    for ours, theirs in zip(*pairs, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


@torch.no_grad()
def test_a_residual_predictor_that_says_nothing_predicts_that_nothing_changes() -> None:
    for residual in (True, False):
        model, clip = tiny(residual=residual).eval(), random_clip(ARM, 2, 3)
        torch.nn.init.zeros_(model.predictor.out.weight)
        torch.nn.init.zeros_(model.predictor.out.bias)
        state = model.encode(clip.at(0))
        ahead = [model.predict(state, clip.action[:, 0])["z"], model.imagine(state, clip.action[:, None])["z"][:, 0, 2]]
        assert all(torch.allclose(z, state["z"], atol=1e-4) == residual for z in ahead)
        seen = model._look(clip.obs)
        still = (seen["z"][:, 1:] - seen["z"][:, :-1]).abs().mean().item()
        assert (model.errors(seen, clip.action)["teacher"].item() == pytest.approx(still, rel=1e-4)) == residual


def test_the_loss_is_the_weighted_sum() -> None:
    loss, parts = tiny(teacher=0.5, rollout=3.0).loss(random_clip(ARM, 2, 4))
    assert set(parts) == {"teacher", "rollout"}
    assert loss.item() == pytest.approx(0.5 * parts["teacher"].item() + 3 * parts["rollout"].item(), rel=1e-5)
    assert set(tiny(rollout=0.0).loss(random_clip(ARM, 2, 1))[1]) == {"teacher"}


# ---------------------------------------------------------------------- imagination


@pytest.mark.parametrize("remember", [True, False])
@pytest.mark.parametrize("window", [1, 3, 16])
@torch.no_grad()
def test_cached_rollouts_are_the_uncached_ones(window: int, remember: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of candidates that share a past, against the predictor run over each one's whole film of tokens."""
    model = tiny(window=window, remember=remember, state_rule="pose").eval()
    clip = random_clip(ARM, 2, 3)
    states = model.watch(clip)
    state, actions = at(states, 3), random_actions(ARM, (2, 4, 5), torch.Generator().manual_seed(1))
    fast, slow = model.imagine(state, actions)["z"], WorldModel.imagine(model, state, actions)["z"]
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-5)
    monkeypatch.setattr("innerworld.models.vjepa2_ac.TOKENS", 1)  # each candidate alone
    torch.testing.assert_close(model.imagine(state, actions)["z"], slow, rtol=0, atol=1e-5)
    first = 0 if remember else 3
    for b, n in ((0, 0), (1, 3)):
        z, pose = states["z"][b, first:], states["pose"][b, first:]
        acted = clip.action[b, first:]
        for h in range(5):
            acted = torch.cat([acted, actions[b, n, h, None]])
            guess = model.predictor(z[None], acted[None], pose[None], torch.zeros(1, len(z), 0))[0, -1]
            guess = F.layer_norm(guess, (24,))
            torch.testing.assert_close(fast[b, n, h], guess, rtol=0, atol=1e-5)
            z, pose = torch.cat([z, guess[None]]), torch.cat([pose, model.robot.act(pose[-1:], actions[b, n, h, None])])


@torch.no_grad()
def test_what_was_seen_before_counts_only_if_it_is_remembered() -> None:
    clip = random_clip(ARM, 2, 2)
    for remember in (True, False):
        model = tiny(remember=remember).eval()
        with_past, without = at(model.watch(clip), 2), model.encode(clip.at(2))
        ahead, alone = (model.predict(state, clip.action[:, 0])["z"] for state in (with_past, without))
        assert ((ahead - alone).abs().max() > 1e-3) == remember


@pytest.mark.parametrize(
    ("rule", "expected"), [("hold", [0.5, 0.5]), ("add", [1.5, 0.0]), ("target", [1.0, -0.5])], ids=str
)
@torch.no_grad()
def test_the_state_goes_on_in_its_own_unit(rule: str, expected: list[float]) -> None:
    """Actions of -1 and +1 stand for -1 and 2 in the first number, -1 and 1 in the second."""
    spec = Spec({"pixels": (16, 16, 3), "joints": (2,)}, 2)
    model = tiny(spec, state_rule=rule, action_low=[-1.0, -1.0], action_high=[2.0, 1.0]).eval()
    obs = random_clip(spec, 1, 1).at(0) | {"joints": torch.tensor([[0.5, 0.5]])}
    after = model.predict(model.encode(obs), torch.tensor([[1 / 3, -0.5]]))
    torch.testing.assert_close(after["pose"], torch.tensor([expected]))


@torch.no_grad()
def test_of_targets_the_predictor_is_told_how_far_they_are() -> None:
    """Where it is not told the state itself: an arm that is to move by as much is to move by as much."""
    spec = Spec({"pixels": (16, 16, 3), "joints": (2,)}, 2)
    model = tiny(spec, state_rule="target", action_low=[-4.0], action_high=[4.0]).eval()
    assert model.predictor.state_in is not None
    torch.nn.init.zeros_(model.predictor.state_in.weight)
    obs = random_clip(spec, 1, 1).at(0)

    def ahead(joints: float, action: float) -> Tensor:
        return model.predict(model.encode(obs | {"joints": torch.full((1, 2), joints)}), torch.full((1, 2), action))[
            "z"
        ]

    torch.testing.assert_close(ahead(0.0, 0.25), ahead(1.0, 0.5))  # from 0 to 1, from 1 to 2
    assert (ahead(0.0, 0.25) - ahead(1.0, 0.25)).abs().max() > 1e-3


def test_states_and_actions_are_told_by_what_was_seen_in_training() -> None:
    model, clip = tiny(standardise=True), random_clip(ARM, 8, 4)
    large = Clip(clip.obs | {"pose": 100 + 10 * clip.obs["pose"]}, clip.action, clip.reward, clip.terminated)
    model.eval().loss(large)
    assert model.robot.action_scale is not None and model.robot.action_scale.count == 0
    model.train().loss(large)
    action, pose = model.robot.told(large.action, large.obs["pose"][:, :-1])
    for value in (action, pose):
        torch.testing.assert_close(value.flatten(0, 1).mean(dim=0), torch.zeros(7), rtol=0, atol=1e-4)
        torch.testing.assert_close(value.flatten(0, 1).std(dim=0, correction=0), torch.ones(7), rtol=1e-3, atol=0)


@torch.no_grad()
def test_action_state_and_camera_are_felt() -> None:
    model = tiny(CAMERAS, extrinsics="where").eval()
    assert model.predictor.state_in is not None and model.predictor.state_in.in_features == 3
    obs, action = random_clip(CAMERAS, 1, 1).at(0), torch.zeros(1, 3)
    here = model.predict(model.encode(obs), action)["z"]
    assert here.shape == (1, 6 + 4, 24)
    for change in ("joints", "where"):
        other = model.predict(model.encode(obs | {change: obs[change] + 1}), action)["z"]
        assert (other - here).abs().max() > 1e-3
    assert (model.predict(model.encode(obs), action + 1)["z"] - here).abs().max() > 1e-3


def test_energy_is_the_mean_absolute_difference() -> None:
    model = tiny()
    one, other = {"z": torch.zeros(1, 4, 24)}, {"z": torch.zeros(1, 4, 24)}
    other["z"][0, 0, 0] = -48.0
    assert model.energy(one, other).tolist() == [0.5]


def test_a_search_within_a_robots_limits_finds_the_action_that_leads_to_the_goal() -> None:
    """The goal is what one step of 0.6 along x would bring; the search may move x, y, z and the gripper."""
    model = tiny(state_rule="pose").eval()
    state = model.encode(random_clip(ARM, 1, 1).at(0))
    done = torch.zeros(1, 7)
    done[0, 0] = 0.6
    with torch.no_grad():
        goal = model.predict(state, done)
    constrain = Limits.presets["vjepa2_ac"].constraint()
    search = CEM(horizon=1, samples=200, rounds=10, elites=10, min_std=0.0, answer="mean")
    plan = search(goal_cost(model, state, goal, "last"), cold(1, 1, 7), generators(0, 1), constrain=constrain)
    torch.testing.assert_close(plan.actions[0, 0], done[0], rtol=0, atol=0.1)
    assert not plan.actions[0, 0, 3:6].any() and plan.actions[0, 0, :3].abs().sum() <= 1 + 1e-6


# ---------------------------------------------------------------------- what does not fit


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        ({"eyes": {}}, "without eyes: give eyes.checkpoint"),
        ({"eyes": {"vit": VIT, "frozen": False}}, "eyes.frozen"),
        ({"eyes": {"vit": VIT, "pool": "attentive"}}, "eyes.pool"),
        ({"extrinsics": "where"}, "'where' is no vector sensor"),
        ({"action_low": [0.0, 1.0]}, "action_low has 2 numbers, an action 7"),
        ({"heads": 4}, "12 channels"),
    ],
)
def test_settings_that_do_not_fit_are_told(other: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        tiny(**other)


def test_a_robot_that_the_rule_is_not_for_is_told() -> None:
    with pytest.raises(UserError, match="state_rule=pose wants"):
        tiny(Spec({"pixels": (16, 16, 3), "joints": (26,)}, 26), state_rule="pose")


def test_eyes_need_something_to_see() -> None:
    with pytest.raises(UserError, match="need an image"):
        tiny(Spec({"joints": (3,)}, 3))


def _other(**change: Tensor) -> dict[str, Tensor]:
    return random_clip(ARM, 1, 1).at(0) | change


@pytest.mark.parametrize(
    ("obs", "sentence"),
    [
        (
            _other(pixels=torch.zeros(1, 24, 16, 3, dtype=torch.uint8)),
            "picture of 'pixels' is 24×16×3 .* 16×16×3: a goal",
        ),
        (_other(pixels=torch.zeros(1, 16, 16, 1, dtype=torch.uint8)), "16×16×1"),
        (_other(pose=torch.zeros(1, 6)), "'pose' has 6 numbers, this model was made for 7"),
        ({"pixels": torch.zeros(1, 16, 16, 3, dtype=torch.uint8)}, "no sensor 'pose' in what is seen"),
    ],
)
def test_a_goal_or_state_of_another_size_is_told(obs: dict[str, Tensor], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        tiny().encode(obs)


def test_an_action_of_another_size_is_told() -> None:
    model, clip = tiny(), random_clip(ARM, 1, 3)
    state = model.encode(clip.at(0))
    wrong = Clip(clip.obs, clip.action[..., :6], clip.reward, clip.terminated)
    for call in (
        lambda: model.predict(state, torch.zeros(1, 6)),
        lambda: model.imagine(state, torch.zeros(1, 2, 3, 8)),
        lambda: model.encode(clip.at(1), state, torch.zeros(1, 6)),
        lambda: model.loss(wrong),
    ):
        with pytest.raises(UserError, match="made for 7"):
            call()


def test_a_clip_shorter_than_the_rollout_is_told() -> None:
    with pytest.raises(UserError, match="clips of 2 actions are shorter than rollout_steps=3"):
        tiny(rollout_steps=3).loss(random_clip(ARM, 1, 2))
