"""The dial's ends are the families they claim to be; the closed loop, episodes; PAN's window is in test_glp_decoder."""

from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor, nn

from innerworld.errors import UserError
from innerworld.models.dreamer import Dreamer
from innerworld.models.dreamer_config import DreamerConfig
from innerworld.models.glp import GLP
from innerworld.models.glp_config import GLPConfig
from innerworld.models.glp_decoder import FlowDecoder
from innerworld.models.jepa import JEPA, JEPAConfig
from innerworld.nn.sensors import to_uint8
from innerworld.testing.world_model import random_clip
from innerworld.types import Clip, Spec, random_actions
from innerworld.world import WorldModel, at

PIXELS = Spec({"pixels": (16, 16, 3)}, 2)
MIXED = Spec({"pixels": (16, 16, 3), "speed": (3,)}, 2)
SIZES = {"channels": 2, "latent": 6, "hidden": 8, "slices": 8, "heads": 2, "head_dim": 4}
TERMS = {"rollout": 3, "sigreg": 0.5, "std": 2.0, "cov": 3.0, "std_time": 0.2, "smooth": 0.3, "inverse": 0.7}
DECODER = {"dim": 16, "depth": 2, "heads": 2, "steer": 16}
WINDOW = DECODER | {"kind": "window"}


def tiny(jepa: dict | None = None, spec: Spec = PIXELS, seed: int = 0, **other: object) -> GLP:
    torch.manual_seed(seed)
    plain = {"codec": {"width": 8}, "decoder": DECODER, "reward": 0.0, "continues": 0.0}
    return GLP(GLPConfig.model_validate(plain | {"jepa": SIZES | (jepa or {})} | other), spec)


def woken(model: GLP) -> GLP:
    """With its gates open: they begin at zero, so that blocks pass everything by."""
    assert model.decoder is not None
    generator = Generator().manual_seed(5)
    for part in model.decoder.modules():
        if isinstance(part, nn.Linear) and not part.weight.any():
            nn.init.normal_(part.weight, std=0.3, generator=generator)
    return model.eval()


def gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    learnt = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, list(learnt.values()), retain_graph=True, materialize_grads=True)
    return dict(zip(learnt, found, strict=True))


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=1e-6, atol=1e-6)


# ---------------------------------------------------------------------- one end: a JEPA


@pytest.mark.parametrize(
    "terms",
    [
        {},
        TERMS,
        TERMS | {"detach": True, "spread": "first"},
        {"predictor": "gru", "norm": True, "single": 0.0, "rollout": 4, "spread": "all", "std": 1.0, "sigreg": 0.0},
        {"predictor": "transformer", "history": 3, "dropout": 0.2, "rollout": 2, "projector": 8},
        {"encoder": "vit", "patch": 8, "vit_dim": 12, "vit_depth": 1},
    ],
    ids=["plain", "all terms", "detached", "gru", "transformer", "vit"],
)
def test_without_a_generative_loss_it_is_a_jepa(terms: dict) -> None:
    torch.manual_seed(0)
    jepa = JEPA(JEPAConfig.model_validate(SIZES | terms), MIXED)
    glp = tiny(terms, MIXED, generative=0.0)
    clip = random_clip(MIXED, 5, 5)
    torch.manual_seed(1)
    loss, parts = jepa.loss(clip)
    torch.manual_seed(1)
    glp_loss, glp_parts = glp.loss(clip)
    torch.testing.assert_close(glp_loss, loss, rtol=1e-6, atol=1e-6)
    assert glp_parts.keys() == parts.keys()
    same(gradients(glp.jepa, glp_loss), gradients(jepa, loss))
    assert (
        glp.decoder is None
        and not glp.card.decodes
        and {id(p) for p in glp.parameters()} == {id(p) for p in glp.jepa.parameters()}
    )


def test_a_decoder_beside_a_jepa_is_not_felt_by_it() -> None:
    """g learns, and h and f get not a bit of its gradient."""
    clip = random_clip(PIXELS, 5, 4)
    found = []
    for beside in (False, True):
        model = tiny(TERMS, generative=0.0, beside=beside)
        torch.manual_seed(1)
        loss, parts = model.loss(clip)
        found.append(gradients(model.jepa, loss))
        assert ("generate" in parts) == beside
    same(*found)
    assert model.decoder is not None and any(g.any() for g in gradients(model.decoder, loss).values())  # pyright: ignore


def test_the_dial_is_linear() -> None:
    """The gradient at (a, b) is a times that of the latent end and b times that of the generative end."""
    clip = random_clip(PIXELS, 4, 4)

    def gradient(latent: float, generative: float) -> dict[str, Tensor]:
        model = tiny({"sigreg": 0.0}, latent=latent, generative=generative)
        torch.manual_seed(1)
        return gradients(model.jepa, model.loss(clip)[0])

    latent, generative = gradient(1.0, 1e-12), gradient(0.0, 1.0)
    same(gradient(0.3, 2.0), {name: 0.3 * latent[name] + 2.0 * generative[name] for name in latent})


# ---------------------------------------------------------------------- the other end: PAN


@pytest.mark.parametrize("predicts", ["v", "x"])
def test_without_a_latent_loss_it_is_pan_written_out(predicts: str) -> None:
    """E disc(g(f(h(o), a)), o') with flow matching: x_k = k x_1 + (1 - k) x_0, v = x_1 - x_0 (card § 1.6)."""
    model = tiny({"sigreg": 0.0}, latent=0.0, generative=2.0, decoder=DECODER | {"predicts": predicts})
    h, f, g, codec = model.jepa.eyes, model.jepa.predictor, model.decoder, model.codec
    assert g is not None and codec is not None
    nn.init.normal_(g.out.weight)
    clip = random_clip(PIXELS, 4, 3)
    torch.manual_seed(1)
    loss, parts = model.loss(clip)

    torch.manual_seed(1)
    o, later = clip.obs["pixels"][:, :-1].flatten(0, 1), clip.obs["pixels"][:, 1:].flatten(0, 1)
    s = f(h({"pixels": o}), clip.action.flatten(0, 1))
    x1 = codec.look({"pixels": later})
    k = torch.rand(len(x1), 1)
    x0 = torch.randn(x1.shape)
    xk = k[:, None] * x1 + (1 - k[:, None]) * x0
    told = g(xk[:, None], k, s[:, None])[:, 0]
    if predicts == "v":
        written = (told - (x1 - x0)).square().mean()
    else:
        written = ((0.9 * k[:, 0] + 0.1) * (told - x1).square().mean(dim=(1, 2))).mean()
    torch.testing.assert_close(loss, 2.0 * written, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(parts["generate"], written.detach(), rtol=1e-6, atol=1e-6)
    same(gradients(model, loss), gradients(model, 2.0 * written))
    for part in (h, f, g):
        assert any(p.any() for p in gradients(part, loss).values())  # it reaches all three


def test_the_latent_error_is_told_where_it_is_not_learnt() -> None:
    model = tiny({"sigreg": 0.0}, latent=0.0)
    assert model.loss(random_clip(PIXELS, 4, 3))[1]["predict"] > 0


def test_pictures_of_imagined_steps_are_drawn_too() -> None:
    """With a roll-out the generative loss is the mean over single and imagined steps; without single ones of these."""
    clip = random_clip(PIXELS, 3, 4)
    seen: list[int] = []

    class Counting(FlowDecoder):
        def loss(self, latents: Tensor, frames: Tensor, real: Tensor) -> Tensor:
            seen.append(latents.shape[1])
            return latents.new_zeros(())

    for single, steps in ((1.0, [4, 2]), (0.0, [2])):
        model = tiny({"rollout": 2, "single": single})
        assert model.codec is not None
        model.decoder = Counting(model.config.decoder, 6, model.codec)  # pyright: ignore
        model.loss(clip)
        assert seen == steps
        seen.clear()


# ---------------------------------------------------------------------- the closed loop, episodes, what is told


@pytest.mark.parametrize("decoder", [DECODER, WINDOW])
@torch.no_grad()
def test_the_closed_loop_looks_at_what_was_drawn(decoder: dict) -> None:
    model = woken(tiny(decoder=decoder, reencode=True))
    assert model.decoder is not None
    clip = random_clip(PIXELS, 2, 2)
    after = model.predict(model.encode(clip.at(0)), clip.action[:, 0])
    shown = model.decode(after)
    torch.testing.assert_close(after["z"], model.encode(shown)["z"])
    plain = model.jepa.predict(model.encode(clip.at(0)), clip.action[:, 0])["z"]
    assert (after["z"] - plain).abs().max() > 1e-3
    if decoder is DECODER:
        torch.testing.assert_close(after["frame"], model.decoder.draw(plain))


@torch.no_grad()
def test_what_is_drawn_varies_with_a_generator_only() -> None:
    model = woken(tiny(reencode=True))
    state, action = model.encode(random_clip(PIXELS, 2, 1).at(0)), torch.zeros(2, 2)
    frames = [model.predict(state, action, rng)["frame"] for rng in (None, None, Generator().manual_seed(0))]
    assert torch.equal(frames[0], frames[1]) and (frames[0] - frames[2]).abs().max() > 1e-2


@pytest.mark.parametrize("decoder", [DECODER, WINDOW])
@pytest.mark.parametrize("predictor", ["mlp", "transformer"])
def test_the_step_into_another_episode_teaches_nothing(decoder: dict, predictor: str) -> None:
    terms = {"predictor": predictor, "history": 3, "rollout": 4, "smooth": 1.0, "inverse": 1.0}
    model = tiny(terms, decoder=decoder, reward=1.0, continues=1.0).eval()
    clip = random_clip(PIXELS, 3, 5)
    first = torch.zeros(3, 6, dtype=torch.bool)
    first[:, 3] = True
    found = []
    for change in (0.0, 0.5):
        action, reward = clip.action.clone(), clip.reward.clone()
        action[:, 2] = change
        reward[:, 2] = change
        joined = Clip(clip.obs, action, reward, clip.terminated, first)
        torch.manual_seed(1)
        found.append(model.loss(joined)[0])
    torch.testing.assert_close(*found, rtol=1e-6, atol=1e-6)
    torch.manual_seed(1)
    assert (model.loss(Clip(clip.obs, action, reward, clip.terminated))[0] - found[1]).abs() > 1e-3  # pyright: ignore


@torch.no_grad()
def test_reward_and_going_on_are_told_without_drawing() -> None:
    model = tiny(reward=1.0, continues=1.0)
    state = at(model.watch(random_clip(PIXELS, 2, 3)), 2)
    told = model.decode(state)
    reward, going = model.prospects(state)
    assert torch.equal(told["reward"], reward) and torch.equal(told["continue"], going)
    assert torch.equal(reward, torch.zeros(2))
    with pytest.raises(UserError, match="reward=0"):
        tiny().prospects(state)


def test_an_actor_learns_in_its_imagination() -> None:
    torch.manual_seed(0)
    world = {"jepa": SIZES, "codec": {"width": 8}, "decoder": DECODER}
    acting = {"horizon": 3, "actor": {"units": 8}, "critic": {"units": 8}}
    values = {"family": "glp", "world": world, "actor_critic": acting}
    dreamer = Dreamer(DreamerConfig.model_validate(values), PIXELS)
    clip = random_clip(PIXELS, 2, 4)
    loss, parts = dreamer.loss(clip)
    loss.backward()
    assert loss.isfinite() and {"predict", "generate", "reward", "continue"} <= parts.keys()
    assert dreamer.beliefs is not None and set(dreamer.beliefs) == {"z"}


@torch.no_grad()
def test_first_clips_give_the_codec_its_basis() -> None:
    model, clip = tiny(), random_clip(PIXELS, 4, 3)
    assert model.codec is not None
    before = model.codec.floor(clip)["pixels"]
    model.prepare(clip)
    assert model.codec.floor(clip)["pixels"] > before


@torch.no_grad()
def test_without_drawing_latents_alone_are_imagined() -> None:
    model = tiny()
    state = model.encode(random_clip(PIXELS, 2, 1).at(0))
    actions = random_actions(PIXELS, (2, 3, 4), Generator().manual_seed(1))
    fast = model.imagine(state, actions)
    assert set(fast) == {"z"}
    torch.testing.assert_close(fast["z"], WorldModel.imagine(model, state, actions)["z"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"latent": 0.0, "generative": 0.0}, "nothing to learn"),
        ({"generative": 0.0, "reencode": True}, "reencode needs g"),
        ({"generative": 1.0, "beside": True}, "beside=true is for generative=0"),
        ({"decoder": WINDOW | {"steps": 3}}, "choose an even one"),
        ({"bins": 8}, "odd"),
        ({"jepa": SIZES | {"single": 0.0}}, "no step to learn from"),
        ({"jepa": SIZES | {"single": 0.0}, "latent": 0.0}, "no step to learn from"),
    ],
)
def test_settings_that_do_not_fit_are_told_in_a_sentence(settings: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        tiny(None, **settings) if "jepa" not in settings else GLP(GLPConfig.model_validate(settings), PIXELS)


@pytest.mark.parametrize("preset", GLP.presets)
def test_presets_learn_a_step(preset: str) -> None:
    torch.manual_seed(0)
    spec = Spec({"pixels": (64, 64, 3)}, 2)
    model = GLP(GLP.presets[preset], spec)  # pyright: ignore
    clip = random_clip(spec, 2, 3)
    model.prepare(clip)
    loss, parts = model.loss(clip)
    loss.backward()
    assert loss.isfinite() and ("generate" in parts) == (preset != "jepa")


@pytest.mark.slow
def test_it_learns_to_draw_what_follows() -> None:
    """A square that the action moves: on other clips its pictures are nearer to what comes than the last frame is."""
    spec = Spec({"pixels": (16, 16, 3)}, 1)

    def moved(n: int, seed: int) -> Clip:
        rng = Generator().manual_seed(seed)
        action = torch.randint(0, 2, (n, 2, 1), generator=rng).float() * 2 - 1
        start = torch.randint(0, 13, (n, 1), generator=rng)
        place = torch.cat([start, start + action[..., 0].cumsum(dim=1).long() * 2], dim=1) % 13
        columns = torch.arange(16)
        square = (columns >= place[..., None]) & (columns < place[..., None] + 4)
        picture = torch.zeros(n, 3, 16, 16, 3)
        picture[:, :, 6:10] = square[:, :, None, :, None].float()
        nothing = torch.zeros(n, 2)
        return Clip({"pixels": to_uint8(picture)}, action, nothing, nothing.bool())

    torch.manual_seed(0)
    values = {
        "jepa": {"channels": 4, "latent": 8, "hidden": 32, "sigreg": 0.1, "slices": 16},
        "reward": 0,
        "continues": 0,
    }
    values |= {"codec": {"width": 32}, "decoder": {"dim": 32, "heads": 2, "depth": 1}}
    model = GLP(GLPConfig.model_validate(values), spec)
    model.prepare(moved(64, 0))
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    for step in range(40):
        optimiser.zero_grad()
        model.loss(moved(32, step))[0].backward()
        optimiser.step()
    model.eval()
    clip = moved(64, 10_000)
    true = clip.obs["pixels"].float() / 255
    with torch.no_grad():
        drawn = model.decode(model.predict(model.encode(clip.at(0)), clip.action[:, 0]))["pixels"]
    ahead, still = (drawn - true[:, 1]).square().mean(), (true[:, 0] - true[:, 1]).square().mean()
    assert ahead < 0.5 * still
