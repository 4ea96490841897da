"""Dreamer: its sizes, its settings, what goes where; the traps that other ports fell into and no other test holds."""

from __future__ import annotations

import json
import math
from typing import Any, cast

import pytest
import torch
from torch import Generator, nn

from innerworld import models
from innerworld.errors import UserError
from innerworld.models import JEPA, RSSM, Genie
from innerworld.models.dreamer import Dreamer
from innerworld.models.dreamer_config import DreamerConfig
from innerworld.models.sequence_config import BackboneConfig, SequenceConfig
from innerworld.models.world_models import WorldModels
from innerworld.policy import ActorCriticConfig
from innerworld.testing.world_model import random_clip
from innerworld.types import Clip, Spec, each
from innerworld.world import at

WORLD = {"deter": 32, "hidden": 16, "stoch": 4, "classes": 4, "units": 16, "layers": 1}
TINY = {"world": WORLD, "actor_critic": {"horizon": 3, "actor": {"units": 16}, "critic": {"units": 16}}}
SPEC = Spec({"speed": (3,)}, 2)


def _dreamer(spec: Spec = SPEC, **changes: Any) -> Dreamer:
    torch.manual_seed(0)
    return Dreamer(DreamerConfig.model_validate(TINY | changes), spec)


@pytest.mark.parametrize(
    ("preset", "shape", "total"),
    [
        ("v3", (24,), 640_867),
        ("v3-1m", (64, 64, 3), 686_846),
        ("v3-12m", (24,), 9_738_019),
        ("v3-12m", (64, 64, 3), 10_494_158),
        ("v3-200m", (64, 64, 3), 165_948_686),
    ],
)
def test_parameter_counts_are_the_papers(preset: str, shape: tuple[int, ...], total: int) -> None:
    """What is learnt; the slow critic follows."""
    with torch.device("meta"):
        model = Dreamer(cast(DreamerConfig, Dreamer.presets[preset]), Spec({"sensor": shape}, 6))
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == total


def test_actor_and_critic_of_the_1m_model_have_the_papers_counts() -> None:
    with torch.device("meta"):
        model = Dreamer(cast(DreamerConfig, Dreamer.presets["v3"]), Spec({"sensor": (24,)}, 6))
    count = lambda part: sum(p.numel() for p in part.parameters())
    assert count(model.actor_critic.actor) == 50_316 and count(model.actor_critic.critic.net) == 66_111


@pytest.mark.parametrize("preset", ["v1", "v2", "v2-dmc"])
def test_older_dreamers_learn_each_part_at_its_own_rate(preset: str) -> None:
    rates = {"v1": (8 / 60, 8 / 60), "v2": (0.2, 0.5), "v2-dmc": (8 / 30, 8 / 30)}[preset]
    with torch.device("meta"):
        model = Dreamer(cast(DreamerConfig, Dreamer.presets[preset]), Spec({"sensor": (64, 64, 3)}, 6))
    assert model.rates() == pytest.approx({"actor_critic.actor": rates[0], "actor_critic.critic": rates[1]})
    names = [name for name, _ in model.named_parameters()]
    assert all(any(name.startswith(f"{part}.") for name in names) for part in model.rates())
    assert _dreamer().rates() == {}


def test_small_agents_differ_in_their_substrate_alone() -> None:
    """Whoever compares them compares memories: as many parameters within half a percent, and the same of all else."""
    small = {name: cast(DreamerConfig, of) for name, of in Dreamer.presets.items() if name.startswith("small")}
    kinds = {cast(SequenceConfig, of.world).backbone.kind for of in small.values()}
    assert kinds == {"attention", "mamba2", "s4d", "s5", "gru", "hybrid"}
    with torch.device("meta"):
        built = {name: Dreamer(of, Spec({"pixels": (32, 32, 3)}, 7, discrete=True)) for name, of in small.items()}
    counts = [sum(p.numel() for p in model.parameters() if p.requires_grad) for model in built.values()]
    assert max(counts) < 1.005 * min(counts) and min(counts) > 1e6
    same = small["small-attention"].world.model_dump(exclude={"backbone"})
    assert all(of.world.model_dump(exclude={"backbone"}) == same for of in small.values())
    assert all(of.actor_critic == small["small-attention"].actor_critic for of in small.values())


@pytest.mark.parametrize("preset", list(Dreamer.presets))
def test_every_presets_steps_are_discounted_once(preset: str) -> None:
    """What the world's "continue" contains is what the actor-critic discounts by; DIAMOND's is a mere chance."""
    config = cast(DreamerConfig, Dreamer.presets[preset])
    with torch.device("meta"):
        model = Dreamer(config, Spec({"sensor": (64, 64, 3)}, 6))
    told = 1.0 if config.family == "diffusion" else config.actor_critic.discount
    assert model.discount() == pytest.approx(told)
    assert model.actor_critic.factor == pytest.approx(config.actor_critic.discount / told)


def test_settings_of_the_world_are_those_of_its_family() -> None:
    config = models.config("dreamer", None, ["world.deter=64", "actor_critic.starts=8"])
    assert isinstance(config, DreamerConfig) and isinstance(config.world, RSSM.Config)
    assert config.world.deter == 64 and config.actor_critic.starts == 8  # type: ignore[attr-defined]
    other = models.config("dreamer", None, ["family=world_models"])
    assert isinstance(other, DreamerConfig) and other.world == WorldModels.Config()
    for each_config in (config, other):
        assert DreamerConfig.model_validate(json.loads(each_config.model_dump_json())) == each_config


def test_a_family_brings_its_settings_whatever_the_order_of_the_words() -> None:
    words = ["world.units=8", "family=sequence", "world.backbone.kind=gru"]
    config = models.config("dreamer", "v3", words)
    assert isinstance(config, DreamerConfig)
    expected = SequenceConfig(units=8, backbone=BackboneConfig(kind="gru"))
    assert config.world == expected == models.config("dreamer", "v3", words[::-1]).world  # type: ignore[attr-defined]
    for preset, family in (("v3-12m", "sequence"), ("control", "sequence"), ("storm", "rssm")):
        with pytest.raises(UserError, match=f"^world has settings of .*, not of {family}: set world={{}} for"):
            models.config("dreamer", preset, [f"family={family}", "world.units=8"])
        begun = models.config("dreamer", preset, ["world={}", "world.units=8", f"family={family}"])
        assert begun.world == models.config(family, None, ["units=8"])  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["world.detr=3"], "unknown key 'world.detr'. Did you mean 'world.deter'"),
        (["world.deter=big"], "world.deter: "),
        (["family=rsm"], "unknown family 'rsm'. Did you mean 'rssm'"),
        (["family=dreamer"], "choose another family"),
        (["family=3"], "family: "),
        (["actor_critic.actor.unit=3"], "Did you mean 'actor_critic.actor.units'"),
    ],
)
def test_a_mistake_is_named(words: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        models.config("dreamer", None, words)


def test_settings_of_another_family_are_named() -> None:
    with pytest.raises(UserError, match="JEPAConfig is no settings of rssm"):
        DreamerConfig(world=JEPA.Config())


def test_any_family_that_tells_reward_will_do() -> None:
    small = {"z": 6, "hidden": 16, "mixtures": 3, "units": 16, "bins": 41, "image_size": 8, "stages": 1, "depth": 4}
    spec = Spec({"pixels": (8, 8, 3)}, 2)
    model = _dreamer(spec, family="world_models", world=small | {"image": "strided"})
    assert model.actor_critic.factor == pytest.approx(1 - 1 / 333)
    loss, _ = model.loss(random_clip(spec, 2, 4))
    loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_the_world_is_prepared_with_the_first_clips() -> None:
    """A codec's basis, and what the labelled transitions say of latent actions."""
    spec = Spec({"pixels": (16, 16, 3)}, 3, discrete=True)
    body = {"dim": 16, "depth": 1, "heads": 2}
    world = {
        "codec": {"width": 4},
        "actions": {"backbone": body | {"steering": "none"}, "steps": 2},
        "dynamics": {"backbone": body | {"steering": "token"}},
        "reward": 0.1,
    }
    dreamer = Dreamer(DreamerConfig.model_validate({"family": "genie", "world": world}), spec)
    genie = cast(Genie, dreamer.world)
    before = genie.words.codec.tokenizers[0].state_dict()["basis"].clone()
    dreamer.prepare(random_clip(spec, 4, 6))
    assert genie.meaning().count == 24 and dreamer.waits()
    assert not torch.equal(genie.words.codec.tokenizers[0].state_dict()["basis"], before)


def test_a_family_that_cannot_go_on_in_the_middle_says_so() -> None:
    model = _dreamer(family="jepa", world={"latent": 8, "hidden": 16, "channels": 4})
    clip = random_clip(SPEC, 2, 4)
    first = torch.zeros(2, 5, dtype=torch.bool)
    with pytest.raises(UserError, match="jepa cannot learn from a replay"):
        model.loss(Clip(clip.obs, clip.action, clip.reward, clip.terminated, first))


def test_the_loss_is_the_worlds_and_the_actor_critics() -> None:
    model, clip = _dreamer(), random_clip(SPEC, 2, 4)
    torch.manual_seed(1)
    total, parts = model.loss(clip)
    torch.manual_seed(1)
    world, its = model.world.loss(clip)
    acting = parts["actor"] + parts["critic"] + 0.3 * parts["critic_lived"]
    torch.testing.assert_close(total.detach(), world.detach() + acting)
    for name, part in its.items():
        torch.testing.assert_close(part, parts[name])


def test_the_beliefs_of_the_last_loss_are_kept_for_the_replay() -> None:
    model, clip = _dreamer(), random_clip(SPEC, 2, 4)
    model.loss(clip)
    assert model.beliefs is not None and not any(value.requires_grad for value in model.beliefs.values())
    assert model.beliefs["deter"].shape[:2] == (2, 5)
    past = model.packed(at(model.beliefs, 0))
    model.loss(Clip(clip.obs, clip.action, clip.reward, clip.terminated, past=past))
    kept = model.packed(at(model.beliefs, 0))
    assert all(torch.equal(value, kept[name]) for name, value in past.items())


def test_the_lived_critic_loss_teaches_the_world_model() -> None:
    """And nothing else of acting does: without it, the world model learns as if nobody acted."""
    clip = random_clip(SPEC, 2, 4)
    gradients = []
    for replay in (0.0, 0.3, None):
        change = {} if replay is None else {"replay": replay}
        model = _dreamer(actor_critic=TINY["actor_critic"] | change | {"critic": {"outscale": 1.0}})
        torch.manual_seed(1)
        (model.world if replay is None else model).loss(clip)[0].backward()
        gradients.append(cast(RSSM, model.world).encoder.parameters().__next__().grad)
    nothing, taught, alone = gradients
    torch.testing.assert_close(nothing, alone)
    assert taught is not None and not torch.allclose(taught, nothing, rtol=1e-3)


def test_norms_have_a_gain_and_no_offset() -> None:
    norms = [module for module in _dreamer().modules() if isinstance(module, nn.RMSNorm)]
    assert len(norms) > 10 and all([name for name, _ in norm.named_parameters()] == ["weight"] for norm in norms)
    assert not any(isinstance(module, nn.LayerNorm) for module in _dreamer().modules())


def test_the_last_real_step_goes_on_unless_the_world_ended() -> None:
    """A head that says the same of every step costs softplus(x) - x · mean target: the targets can be read from it."""
    model, said = _dreamer(), 3.0
    head = cast(nn.Linear, cast(RSSM, model.world).continues.stack[-1])  # type: ignore[union-attr]
    with torch.no_grad():
        head.weight.zero_()
        head.bias.fill_(said)
    clip = random_clip(SPEC, 2, 4)
    clip.terminated[0, 3] = True  # row 0 ends for good with the clip
    first = torch.zeros(2, 5, dtype=torch.bool)
    first[1, 3] = True  # row 1: time ran out after step 1; step 2 leads into the next episode
    _, parts = model.loss(Clip(clip.obs, clip.action, clip.reward, clip.terminated, first))
    target = (math.log1p(math.exp(said)) - float(parts["continue"])) / said
    assert target == pytest.approx(6 / 7 * (1 - 1 / 333), rel=1e-5)


def test_at_first_nothing_is_expected() -> None:
    """Reward and value are exactly 0, so that what was not seen yet is neither sought nor shunned."""
    model = _dreamer()
    state = model.encode(random_clip(SPEC, 5, 1).at(0))
    assert torch.equal(model.prospects(state)[0], torch.zeros(5))
    assert torch.equal(model.actor_critic.critic(model.features(state)).mean(), torch.zeros(5))


@pytest.mark.parametrize("discrete", [False, True])
def test_its_policy_dreams(discrete: bool) -> None:
    spec = Spec({"speed": (3,)}, 3, discrete=discrete)
    model = _dreamer(spec)
    state = model.encode(random_clip(spec, 4, 1).at(0))
    rng = Generator().manual_seed(0)
    _, likely = model.dream(state, model.policy, 3)
    _, drawn = model.dream(state, lambda belief: model.policy(belief, rng), 3, rng)
    for actions in (likely, drawn):
        assert actions.shape == (4, 3, 3) and bool((actions.abs() <= 1).all())
        assert not discrete or torch.equal(actions.sum(-1), torch.ones(4, 3))
    assert torch.equal(likely[:, 0], model.policy(state)) and not torch.equal(likely, drawn)


def test_the_slow_critic_follows_each_step_and_resumes() -> None:
    model, again = _dreamer(), _dreamer()
    with torch.no_grad():
        for parameter in model.actor_critic.critic.net.parameters():
            parameter.add_(1.0)
    model.after_step()
    again.load_state_dict(model.state_dict())
    slow = cast(nn.Module, model.actor_critic.critic.slow)
    assert int(again.actor_critic.critic.updates) == 1
    moved = [p.sub(q).abs().max() for p, q in zip(slow.parameters(), _dreamer().actor_critic.critic.slow.parameters())]  # type: ignore[union-attr] # noqa: B905
    assert all(float(gap) == pytest.approx(0.02, rel=1e-3) for gap in moved)


@pytest.mark.slow
@pytest.mark.parametrize("gradients", ["reinforce", "dynamics"])
def test_it_learns_which_lever_pays(gradients: str) -> None:
    """One of three levers gives a reward of 1. Blind play teaches the world, dreams of it teach to act."""
    spec = Spec({"speed": (1,)}, 3, discrete=True)
    acting = TINY["actor_critic"] | {"discount": 0.9, "gradients": gradients}
    model = _dreamer(spec, world=WORLD | {"horizon": 10.0}, actor_critic=acting)
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    before = float(_chances(model)[1])
    for step in range(140):
        clip = random_clip(spec, 8, 6, seed=step)
        clip = Clip(each(torch.zeros_like, clip.obs), clip.action, clip.action[..., 1].clone(), clip.terminated)
        optimiser.zero_grad()
        model.loss(clip)[0].backward()
        optimiser.step()
        model.after_step()
    assert before < 0.4 and float(_chances(model)[1]) > 0.8


@torch.no_grad()
def _chances(model: Dreamer) -> torch.Tensor:
    state = model.encode({"speed": torch.zeros(1, 1)})
    return model.actor_critic.actor(model.features(state)).latent.expected().flatten()


def test_the_defaults_are_the_smallest_v3() -> None:
    assert Dreamer.presets["v3"] == Dreamer.presets["v3-1m"] == DreamerConfig()
    assert DreamerConfig().actor_critic == ActorCriticConfig()


@pytest.mark.parametrize(("starts", "beliefs"), [(0, 12), (2, 4)])
def test_it_says_beforehand_what_imagining_takes(starts: int, beliefs: int) -> None:
    backbone = BackboneConfig(dim=16, heads=2, mlp=16, window=4)
    world = SequenceConfig(stoch=4, units=16, posterior_units=16, prior_units=16, backbone=backbone)
    acting = TINY["actor_critic"] | {"starts": starts}
    model = _dreamer(family="sequence", world=world, actor_critic=acting)
    width = model.features(model.encode(SPEC.blank())).shape[1]
    n, horizon, size = model.imagination(2, 5)
    assert (n, horizon) == (beliefs, 3)
    memory = model.world.roll_bytes(2, beliefs // 2, 3)
    assert memory > 0 and size == 4 * beliefs * 4 * width + memory
    plain = _dreamer()
    width = plain.features(plain.encode(SPEC.blank())).shape[1]
    assert plain.imagination(2, 5) == (12, 3, 4 * 12 * 4 * width)  # an RSSM remembers nothing but its beliefs
