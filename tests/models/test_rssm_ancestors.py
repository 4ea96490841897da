"""PlaNet, Dreamer v1 and v2 as settings of the RSSM."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor, distributions
from torch.nn import functional as F

from innerworld.errors import UserError
from innerworld.models.latent_world import kl_terms
from innerworld.models.rssm import RSSM
from innerworld.testing.world_model import check_world_model, random_clip
from innerworld.types import Clip, Spec

SMALL = {
    "deter": 32,
    "hidden": 16,
    "stoch": 6,
    "classes": 4,
    "depth": 4,
    "units": 16,
    "layers": 1,
    "mults": (1, 2),
    "kernels": (6, 6),  # 1 → 6 → 16 pixels
    "image_size": 16,
    "free_nats": 0.01,  # a tiny model's nats would all be free
}
TINY = {name: RSSM.presets[name].model_copy(update=SMALL) for name in ("planet", "v1", "v2", "v2-dmc")}
VECTOR = Spec({"position": (3,), "speed": (2,)}, 2)
MIXED = Spec({"pixels": (16, 16, 3), "touch": (24, 16, 1), "speed": (2,)}, 3, discrete=True)
WALKER = Spec({"pixels": (64, 64, 3)}, 6)


@pytest.mark.parametrize("spec", [VECTOR, pytest.param(MIXED, marks=pytest.mark.slow)], ids=["vector", "mixed"])
@pytest.mark.parametrize("preset", ["v1", "v2"])
def test_contract(preset, spec):
    check_world_model(partial(RSSM, TINY[preset]), spec)


@pytest.mark.parametrize("norm", ["layer", "none"])
def test_contract_of_other_norms_around_a_block_gru(norm):
    config = RSSM.Config().model_copy(update=SMALL | {"norm": norm, "activation": "elu"})
    check_world_model(partial(RSSM, config), VECTOR)


# ---------------------------------------------------------------------- parameter counts, by hand from the layers


def _dense(inputs: int, outputs: int) -> int:
    return (inputs + 1) * outputs


def _conv(inputs: int, outputs: int, kernel: int) -> int:
    return (inputs * kernel**2 + 1) * outputs


def _eyes(depth: int) -> int:
    """Four convolutions, kernel 4: pictures of 3 channels → 64 → 31 → 14 → 6 → 2 pixels of 8 × depth channels."""
    return (
        _conv(3, depth, 4)
        + _conv(depth, 2 * depth, 4)
        + _conv(2 * depth, 4 * depth, 4)
        + _conv(4 * depth, 8 * depth, 4)
    )


def _painter(feat: int, depth: int) -> int:
    """A dense layer to one pixel of 32 × depth channels, kernels 5, 5, 6, 6 → 64 pixels of 3."""
    stages = _conv(32 * depth, 4 * depth, 5) + _conv(4 * depth, 2 * depth, 5) + _conv(2 * depth, depth, 6)
    return _dense(feat, 32 * depth) + stages + _conv(depth, 3, 6)


def _head(feat: int, units: int, layers: int) -> int:
    return _dense(feat, units) + (layers - 1) * _dense(units, units) + _dense(units, 1)


def test_parameter_count_of_v1():
    model = RSSM(RSSM.presets["v1"], WALKER)
    embedding, d, s, h = 2 * 2 * 8 * 32, 200, 30, 200
    unit = 3 * d * (h + d + 2)  # a matrix for inputs and one for memory, a bias each
    rssm = _dense(s + 6, h) + unit + 2 * _dense(h, 2 * s) + _dense(d, h) + _dense(d + embedding, h)
    assert rssm == 557_920 and _eyes(32) == 690_144
    assert _count(model.cell) + _count(model.prior) + _count(model.posterior) == rssm
    assert _count(model.encoder) == _eyes(32)
    assert _count(model.decoder) == _painter(d + s, 32) == 3_795_555
    assert model.continues is None
    assert _count(model) == rssm + _eyes(32) + _painter(d + s, 32) + _head(d + s, 400, 2) == 5_296_820
    ending = RSSM(RSSM.presets["v1"].model_copy(update={"continues": 10.0}), WALKER)
    assert _count(ending) == _count(model) + _head(d + s, 400, 3)


def test_parameter_count_of_planet():
    model = RSSM(RSSM.presets["planet"], WALKER)
    v1 = RSSM(RSSM.presets["v1"], WALKER)
    assert _count(model) == _count(v1) - _head(230, 400, 2) + _head(230, 300, 3)


@pytest.mark.parametrize(("preset", "d", "discount"), [("v2", 600, True), ("v2-dmc", 200, False)])
def test_parameter_count_of_v2(preset, d, discount):
    with torch.device("meta"):
        model = RSSM(RSSM.presets[preset], WALKER)
    embedding, s, feat = 2 * 2 * 8 * 48, 32 * 32, d + 32 * 32
    unit = _dense(d + d, 3 * d) + 2 * 3 * d  # one matrix for both, scale and shift of the norm
    rssm = _dense(s + 6, d) + unit + 2 * _dense(d, s) + _dense(d, d) + _dense(d + embedding, d)
    assert _count(model.cell) + _count(model.prior) + _count(model.posterior) == rssm
    assert _count(model.encoder) == _eyes(48)
    assert _count(model.decoder) == _painter(feat, 48)
    assert _count(model) == rssm + _eyes(48) + _painter(feat, 48) + (1 + discount) * _head(feat, 400, 4)
    assert _count(model) == {"v2": 19_973_173, "v2-dmc": 13_656_772}[preset]


def test_parameter_counts_of_v2_vectors():
    """Four layers of 400 to see and four to tell, beside pictures or alone."""
    spec = Spec({"position": (14,), "speed": (10,)}, 6)
    with torch.device("meta"):
        model = RSSM(RSSM.presets["v2-dmc"], spec)
        both = RSSM(RSSM.presets["v2-dmc"], Spec(spec.obs | WALKER.obs, 6))
    assert _count(model.encoder) == _dense(24, 400) + 3 * _dense(400, 400)
    assert _count(model.decoder) == _dense(1224, 400) + 3 * _dense(400, 400) + _dense(400, 24)
    assert both.encoder.width == 400 + 1536


# ---------------------------------------------------------------------- the papers' losses


def test_v1_descends_the_papers_loss():
    """Its value counts the KL twice, once for either side, and no constants; its gradient is the paper's."""
    torch.manual_seed(0)
    model = RSSM(TINY["v1"].model_copy(update={"continues": 10.0}), MIXED)
    clip = random_clip(MIXED, 2, 4)
    clip.terminated[0, 3] = True
    torch.manual_seed(1)
    loss, _, beliefs = model.study(clip)
    likely, posterior, prior, after = _parts(model, clip, beliefs)
    kl = distributions.kl_divergence(_normal(posterior), _normal(prior)).sum(dim=-1).mean()
    reward = _log_prob(model.reward(after).squeeze(-1), clip.reward)
    target = 0.99 * (1 - clip.terminated.float())
    ending = -F.binary_cross_entropy_with_logits(model.continues(after).squeeze(-1), target)
    paper = kl.clamp(min=0.01) - likely - reward.mean() - 10 * ending
    _same_gradient(model, loss, paper)


def test_v2_descends_the_papers_loss():
    torch.manual_seed(0)
    model = RSSM(TINY["v2"].model_copy(update={"free_nats": 0.0}), MIXED)
    clip = random_clip(MIXED, 2, 4)
    torch.manual_seed(1)
    loss, _, beliefs = model.study(clip)
    likely, posterior, prior, after = _parts(model, clip, beliefs)
    kl = lambda p, q: distributions.kl_divergence(_categorical(p), _categorical(q)).sum(dim=-1).mean()
    balanced = 0.8 * kl(posterior.detach(), prior) + 0.2 * kl(posterior, prior.detach())
    reward = _log_prob(model.reward(after).squeeze(-1), clip.reward.tanh())
    ending = -F.binary_cross_entropy_with_logits(
        model.continues(after).squeeze(-1), torch.full_like(clip.reward, 0.999)
    )
    paper = 0.1 * balanced - likely - reward.mean() - 5 * ending
    _same_gradient(model, loss, paper)


def _parts(model: RSSM, clip: Clip, beliefs: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Log-likelihood of the sensors, raw posterior and prior, and what the heads of the steps read."""
    tokens, seen = model.encoder(clip.obs)
    deter, feat = beliefs["deter"], model.features(beliefs)
    posterior = model.posterior(deter, model.posterior.look(tokens))
    told = model.decoder._pictures(deter.flatten(0, 1), feat.flatten(0, 1))
    told |= model.decoder._vectors(feat.flatten(0, 1))
    touch = 24 * 16 / 16**2  # seen smaller than it is
    likely = [
        _log_prob(x, seen[name].flatten(0, 1)).flatten(1).sum(dim=1).mean() * (touch if name == "touch" else 1)
        for name, x in told.items()
    ]
    return torch.stack(likely).sum(), posterior, model.prior(deter), feat[:, 1:]


def _log_prob(mean: Tensor, value: Tensor) -> Tensor:
    return distributions.Normal(mean, 1.0).log_prob(value)


def _normal(raw: Tensor) -> distributions.Normal:
    mean, std = raw.chunk(2, dim=-1)
    return distributions.Normal(mean, F.softplus(std) + 0.1)


def _categorical(raw: Tensor) -> distributions.OneHotCategorical:
    return distributions.OneHotCategorical(logits=raw.unflatten(-1, (6, 4)))


def _same_gradient(model: RSSM, loss: Tensor, paper: Tensor) -> None:
    parameters = dict(model.named_parameters())
    ours, theirs = (torch.autograd.grad(x, list(parameters.values()), retain_graph=True) for x in (loss, paper))
    for name, a, b in zip(parameters, ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize(("free", "moved"), [("each", False), ("mean", True)])
def test_nats_are_free_of_each_belief_or_of_their_mean(free, moved):
    """One belief's KL is far above what is free, the others' below: only the mean moves those."""
    torch.manual_seed(0)
    model = RSSM(TINY["v1"].model_copy(update={"free": free, "free_nats": 3.0}), VECTOR)
    seen = {}
    for name, loudness in (("calm", 1.0), ("loud", 300.0)):
        clip = random_clip(VECTOR, 3, 2)
        clip.obs["position"][0] *= loudness
        clip.obs["speed"].requires_grad_()
        tokens, _ = model.encoder(clip.obs)
        torch.manual_seed(1)
        deter, _, raw = model._follow(tokens, clip, sample=True)
        posterior, prior = model._latent(raw), model._latent(model.prior(deter))
        kl = posterior.kl(prior)
        assert bool((kl[1:] < 3).all())
        assert (kl.mean() > 3) == (name == "loud")
        dyn, rep, _ = kl_terms(posterior, prior, model.config)
        assert dyn >= 3 and torch.equal(dyn, rep)
        (gradient,) = torch.autograd.grad(rep, clip.obs["speed"])
        seen[name] = bool(gradient[1:].any())
    assert seen == {"calm": False, "loud": moved}


# ---------------------------------------------------------------------- what they tell


def test_the_discount_is_told_with_or_without_a_head():
    torch.manual_seed(0)
    state = {name: RSSM(TINY[name], VECTOR).encode(random_clip(VECTOR, 3, 1).at(0)) for name in ("v1", "v2")}
    model = RSSM(TINY["v1"], VECTOR)
    reward, goes_on = model.prospects(state["v1"])
    assert torch.equal(reward, model.decode(state["v1"])["reward"]) and "continue" not in model.decode(state["v1"])
    torch.testing.assert_close(goes_on, torch.full((3,), 0.99))
    model = RSSM(TINY["v2"], VECTOR)
    told = model.decode(state["v2"])
    for found, expected in zip(model.prospects(state["v2"]), (told["reward"], told["continue"]), strict=True):
        assert torch.equal(found, expected)


def test_prospects_paint_nothing(monkeypatch):
    model = RSSM(TINY["v1"], MIXED)
    state = model.encode(random_clip(MIXED, 2, 1).at(0))
    monkeypatch.setattr(model.decoder, "forward", None)
    monkeypatch.setattr(type(model.decoder), "_pictures", None)
    assert model.prospects(state)[0].shape == (2,)


def test_prospects_need_a_reward():
    model = RSSM(TINY["v1"].model_copy(update={"reward": 0.0}), VECTOR)
    with pytest.raises(UserError, match="reward=0"):
        model.prospects(model.encode(random_clip(VECTOR, 2, 1).at(0)))


def test_vectors_are_told_as_they_are():
    """No symlog: what the network says is what is decoded."""
    model = RSSM(TINY["v1"], VECTOR)
    state = model.encode(random_clip(VECTOR, 2, 1).at(0))
    raw = model.decoder.mlp(model.features(state))
    decoded = model.decode(state)
    assert torch.equal(torch.cat([decoded["position"], decoded["speed"]], dim=-1), raw)


def test_a_reward_head_of_its_own_starts_somewhere():
    """Only the two-hot head begins at zero."""
    model = RSSM(TINY["v2"], VECTOR)
    assert bool(model.decode(model.encode(random_clip(VECTOR, 2, 1).at(0)))["reward"].any())


# ---------------------------------------------------------------------- strided, and what does not fit


def test_the_strided_1m_is_the_1m_with_other_convolutions():
    spec = Spec({"pixels": (64, 64, 3)}, 6)
    one, strided = (RSSM(RSSM.presets[name], spec) for name in ("1m", "1m-strided"))
    assert {n: p.numel() for n, p in one.named_parameters() if "conv" not in n} == {
        n: p.numel() for n, p in strided.named_parameters() if "conv" not in n
    }
    assert _count(one) == _count(strided)
    seen = strided.decode(strided.encode(random_clip(spec, 2, 1).at(0)))["pixels"]
    assert seen.shape == (2, 64, 64, 3) and seen.min() >= 0 and seen.max() <= 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image": "valid", "decoder": "maps"}, "decoder=dense"),
        ({"image_size": 32}, "paints 16×16"),
        ({"kernels": (5, 5, 6, 6)}, "give one for each"),
        ({"mults": (1, 2, 4, 8), "kernels": (5, 5, 6, 6)}, "too small for 4 stages"),
    ],
)
def test_settings_that_do_not_fit_are_named(change, words):
    with pytest.raises(UserError, match=words):
        RSSM(TINY["v1"].model_copy(update=change), MIXED)


def test_weights_begin_at_the_size_that_keeps_a_signal():
    torch.manual_seed(0)
    model = RSSM(RSSM.presets["v1"], WALKER)
    first = model.decoder.conv.stages[0]
    assert first.weight.std().item() == pytest.approx(1 / math.sqrt(1024), rel=0.02)


def _count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
