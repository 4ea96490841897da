"""LeWorldModel's size, the terms of the loss, the eyes, and the fast ways to imagine; the contract is elsewhere."""

from __future__ import annotations

import pytest
import torch
from torch import Generator, nn

from innerworld import losses
from innerworld.errors import UserError
from innerworld.models.jepa import JEPA, JEPAConfig
from innerworld.testing.world_model import random_clip
from innerworld.types import Clip, Spec, each, random_actions
from innerworld.world import WorldModel, at

TINY = JEPAConfig(channels=2, latent=6, hidden=8, slices=8, heads=2, head_dim=4)
VECTOR = Spec({"speed": (3,)}, 2)
PIXELS = Spec({"pixels": (16, 16, 3)}, 2)


def tiny(spec: Spec = VECTOR, **other: object) -> JEPA:
    torch.manual_seed(0)
    return JEPA(TINY.model_copy(update=other), spec)


def count(*parts: nn.Module) -> int:
    return sum(p.numel() for part in parts for p in part.parameters())


def test_lewm_has_the_published_size() -> None:
    """Frames of 224, 5 joined 2-D actions. 18.0 M in the released file; positions are rotary here, not learned."""
    with torch.device("meta"):
        model = JEPA(JEPAConfig.model_validate(JEPA.presets["lewm"]), Spec({"pixels": (224, 224, 3)}, 10))
    eyes, predictor = model.eyes, model.predictor
    assert count(eyes.image_eyes) == 5_501_376
    assert count(eyes.out) == count(predictor.out) == 792_768  # pyright: ignore
    assert count(predictor.body) == 10_788_480  # pyright: ignore
    assert count(predictor.embed) == 156_096 and count(predictor.mix) == 110  # pyright: ignore
    assert count(model) == 18_031_598


def test_the_steered_blocks_of_lewm_begin_closed() -> None:
    model = tiny(predictor="transformer", history=3)
    for block in model.predictor.body.blocks:  # pyright: ignore
        assert not block.steer.weight.any() and not block.steer.bias.any()  # pyright: ignore


@pytest.mark.parametrize("predictor", ["mlp", "gru", "transformer"])
@torch.no_grad()
def test_imagine_is_predict_after_predict_from_a_state_with_a_past(predictor: str) -> None:
    model = tiny(predictor=predictor, history=3).eval()
    if predictor == "transformer":
        for name, p in model.named_parameters():
            if "steer" in name:
                nn.init.normal_(p, std=0.5)
    clip = random_clip(VECTOR, b=2, t=5)
    state = at(model.watch(clip), 5)
    actions = random_actions(VECTOR, (2, 4, 7), Generator().manual_seed(1))
    fast, slow = model.imagine(state, actions)["z"], WorldModel.imagine(model, state, actions)["z"]
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-5)
    other = model.imagine(model.encode(clip.at(5)), actions)["z"]
    assert torch.allclose(fast, other, atol=1e-5) == (predictor != "transformer")  # only the transformer has a memory


@torch.no_grad()
def test_the_mlp_looks_at_the_latent_and_the_action() -> None:
    model, state = tiny(), {"z": torch.zeros(1, 6)}
    still, moved = (model.predict(state, torch.full((1, 2), a))["z"] for a in (0.0, 1.0))
    elsewhere = model.predict({"z": torch.ones(1, 6)}, torch.zeros(1, 2))["z"] - 1
    assert (still - moved).abs().max() > 1e-3 and (still - elsewhere).abs().max() > 1e-3


TERMS = {"rollout": 3, "sigreg": 0.5, "std": 2.0, "cov": 3.0, "smooth": 0.3, "inverse": 0.7}
OFF = {"rollout": 0, "sigreg": 0.0, "std": 0.0, "cov": 0.0, "smooth": 0.0, "inverse": 0.0}


def test_without_terms_the_loss_is_the_prediction_alone() -> None:
    model = tiny(**OFF)
    loss, parts = model.loss(random_clip(VECTOR, 4, 5))
    assert set(parts) == {"predict"} and loss.item() == pytest.approx(parts["predict"].item())
    assert model.inverse is None


@pytest.mark.parametrize("term", TERMS)
def test_each_term_switches_its_part_on_with_its_weight(term: str) -> None:
    model = tiny(**(OFF | {term: TERMS[term]}))
    loss, parts = model.loss(random_clip(VECTOR, 4, 5))
    assert set(parts) == {"predict", term}
    weight = 1 if term == "rollout" else TERMS[term]
    assert loss.item() == pytest.approx(parts["predict"].item() + weight * parts[term].item(), rel=1e-5)
    assert (model.inverse is not None) == (term == "inverse")


def test_the_terms_are_what_they_say() -> None:
    model = tiny(**(OFF | TERMS)).eval()
    clip = random_clip(VECTOR, 4, 5)
    with torch.no_grad():
        _, parts = model.loss(clip)
        z = model.watch(clip)["z"]
        after = torch.stack([model.predict({"z": z[:, t]}, clip.action[:, t])["z"] for t in range(5)], dim=1)
        imagined = model.imagine({"z": z[:, 0]}, clip.action[:, None, :3])["z"][:, 0]
    assert parts["predict"].item() == pytest.approx((after - z[:, 1:]).square().mean().item(), rel=1e-5)
    assert parts["rollout"].item() == pytest.approx((imagined - z[:, 1:4]).square().mean().item(), rel=1e-5)
    assert parts["smooth"].item() == pytest.approx(z.diff(dim=1).square().mean().item(), rel=1e-5)


def test_a_rollout_longer_than_the_clip_takes_the_whole_clip() -> None:
    clip = random_clip(VECTOR, 4, 5)
    long, whole = (tiny(**(OFF | {"rollout": n})).loss(clip)[1]["rollout"] for n in (50, 5))
    assert torch.equal(long, whole)


def test_detach_stops_the_gradient_at_the_target() -> None:
    def gradient(detach: bool) -> torch.Tensor:
        model = tiny(**(OFF | {"detach": detach}))
        model.loss(random_clip(VECTOR, 4, 1))[0].backward()
        grad = next(model.eyes.parameters()).grad
        assert grad is not None
        return grad

    assert not torch.allclose(gradient(True), gradient(False))


def test_an_image_is_seen_at_image_size() -> None:
    small, big = tiny(PIXELS, image_size=8), tiny(Spec({"pixels": (64, 64, 3)}, 2), image_size=8)
    assert count(small) == count(big) < count(tiny(PIXELS))
    frames = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    shrunk = frames.float().reshape(2, 8, 8, 8, 8, 3).mean(dim=(2, 4)) / 255
    seen = Spec({"pixels": (8, 8, 3)}, 2)
    alone = tiny(seen, image_size=8)
    torch.testing.assert_close(big.encode({"pixels": frames})["z"], alone.encode({"pixels": shrunk})["z"])


@pytest.mark.parametrize("shape", [(16, 24, 3), (8, 32, 1)])
def test_conv_eyes_take_oblong_images(shape: tuple[int, int, int]) -> None:
    spec = Spec({"pixels": shape}, 2)
    assert tiny(spec).encode(random_clip(spec, 2, 1).at(0))["z"].shape == (2, 6)


@pytest.mark.parametrize(
    ("shape", "settings", "sentence"),
    [
        ((50, 50, 3), {}, "50×50 .*divisible by 8"),
        ((64, 64, 3), {"image_size": 30}, "30×30 .*divisible by 8"),
        ((16, 16, 3), {"encoder": "vit", "patch": 14}, "16×16 cannot be cut into patches of 14"),
        ((16, 24, 3), {"encoder": "vit", "patch": 8}, "'pixels'.*16×24.*image_size"),
        ((16, 16, 3), {"encoder": "vit", "patch": 8, "vit_dim": 16, "vit_heads": 3}, "width 16 .* 3 heads"),
    ],
)
def test_sizes_that_do_not_fit_are_told_in_a_sentence(shape: tuple, settings: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        tiny(Spec({"pixels": shape}, 2), **settings)


def test_an_odd_head_is_refused() -> None:
    with pytest.raises(UserError, match="head_dim"):
        tiny(predictor="transformer", head_dim=5)


def test_sensors_that_the_spec_does_not_name_are_ignored() -> None:
    model, clip = tiny(VECTOR).eval(), random_clip(Spec({"speed": (3,), "secret": (2,)}, 2), 2, 3)
    alone = each(lambda v: v, {"speed": clip.obs["speed"]})
    assert torch.equal(model.encode(clip.at(0))["z"], model.encode({"speed": alone["speed"][:, 0]})["z"])
    model.loss(clip)


def test_energy_is_the_mean_squared_distance() -> None:
    model = tiny()
    one, other = {"z": torch.zeros(1, 6)}, {"z": torch.tensor([[3.0, 0, 0, 0, 0, 0]])}
    assert model.energy(one, other).tolist() == [1.5]


def test_sigreg_keeps_the_latents_apart() -> None:
    """Trained on noise, latents without a regulariser shrink towards one point; with SIGReg they keep their spread."""

    def spread(**weights: float) -> float:
        model = tiny(**(OFF | weights))
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
        clip = random_clip(VECTOR, 32, 3)
        for _ in range(150):
            optimiser.zero_grad()
            model.loss(clip)[0].backward()
            optimiser.step()
        return model.watch(clip)["z"].detach().std(dim=0).mean().item()

    assert spread(sigreg=1.0) > 0.7 and spread() < 0.35


def test_eb_jepa_has_the_published_size() -> None:
    """Its encoder of 1.43 M and its GRU of 0.79 M, for pictures of 65 pixels in two channels; three here."""
    with torch.device("meta"):
        model = JEPA(JEPAConfig.model_validate(JEPA.presets["eb_jepa"]), Spec({"pixels": (65, 65, 3)}, 2))
    third_channel = 16 * 9
    assert count(model.eyes) - third_channel == 1_425_072
    assert count(model.predictor.cell) == 792_576  # pyright: ignore
    assert count(model.predictor.norm) == 1_024  # tied: the encoder ends in it, too


@torch.no_grad()
def test_the_gru_s_norm_ends_the_encoder_too() -> None:
    model = tiny(PIXELS, encoder="impala", predictor="gru", norm=True)
    clip = random_clip(PIXELS, 2, 3)
    seen = model.encode(clip.at(0))["z"]
    imagined = model.imagine(model.encode(clip.at(0)), clip.action[:, None])["z"][:, 0, -1]
    for z in (seen, imagined):
        torch.testing.assert_close(z.mean(dim=-1), torch.zeros(2), rtol=0, atol=1e-5)
        torch.testing.assert_close(z.var(dim=-1, correction=0), torch.ones(2), rtol=0, atol=1e-2)


def test_a_norm_goes_with_the_gru_only() -> None:
    with pytest.raises(UserError, match="norm=true goes with predictor=gru"):
        tiny(norm=True)


def test_without_single_steps_only_the_rollout_counts() -> None:
    torch.manual_seed(0)
    model = tiny(**{**OFF, "rollout": 3}, single=0.0)
    loss, parts = model.loss(random_clip(VECTOR, 4, 5))
    assert loss.item() == pytest.approx(parts["rollout"].item())


@pytest.mark.parametrize("spread", ["step", "first", "all"])
def test_spread_says_what_std_and_cov_are_taken_over(spread: str) -> None:
    model = tiny(**{**OFF, "std": 1.0, "cov": 1.0, "std_time": 1.0}, spread=spread)
    clip = random_clip(VECTOR, 6, 5)
    _, parts = model.loss(clip)
    z = model.see(clip)
    rows = {"step": z.transpose(0, 1), "first": z[:, 0], "all": z.flatten(0, 1)}[spread]
    assert parts["std"].item() == pytest.approx(losses.std_hinge(rows).item())
    assert parts["cov"].item() == pytest.approx(losses.covariance(rows).item())
    assert parts["std_time"].item() == pytest.approx(losses.std_over_time(z).item())


def test_standardised_vectors_do_not_depend_on_their_units() -> None:
    """The same speeds in other units and another zero give the same latents; only training learns what is usual."""
    clip = random_clip(VECTOR, b=64, t=4)
    moved = Clip({"speed": 500 + 1000 * clip.obs["speed"]}, clip.action, clip.reward, clip.terminated)
    seen = []
    for one in (clip, moved):
        model = tiny(standardise=True)
        fresh = {name: value.clone() for name, value in model.state_dict().items() if "scale" in name}
        model.eval().loss(one)
        assert all(torch.equal(model.state_dict()[name], value) for name, value in fresh.items()) and fresh
        model.train().loss(one)
        seen.append(model.eval().encode(one.at(1))["z"])
    torch.testing.assert_close(seen[0], seen[1], rtol=0, atol=1e-3)
    assert not [name for name in tiny().state_dict() if "scale" in name], "runs from before would not load"
