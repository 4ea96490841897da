"""Genie: streams remember what clips tell, actions are codes by labels, and what does not fit is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Generator, Tensor, nn

from innerworld.errors import UserError
from innerworld.models.genie import Genie
from innerworld.models.genie_config import GenieConfig
from innerworld.testing.world_model import random_clip
from innerworld.training import TrainConfig, train
from innerworld.types import Clip, Spec, each
from innerworld.world import at

SPEC = Spec({"pixels": (16, 16, 3)}, 3, discrete=True)
BODY: dict[str, Any] = {"dim": 16, "depth": 2, "heads": 2, "mlp": 2.0, "window": 3}
TINY: dict[str, Any] = {
    "codec": {"width": 4},
    "levels": 5,
    "actions": {"book": {"codes": 4}, "width": 4, "pixels": 8, "backbone": BODY | {"steering": "none"}},
    "dynamics": {"backbone": BODY | {"steering": "token"}, "steps": 3},
    "labels": {"count": 20, "length": 4},
    "units": 16,
    "bins": 11,
}
CHOICES = torch.eye(3)
STEERINGS = ("token", "adaln", "none")


def build(spec: Spec = SPEC, **words: Any) -> Genie:
    """With weights that are nowhere zero, so that every part counts."""
    torch.manual_seed(0)
    model = Genie(GenieConfig.model_validate(TINY | words), spec)
    for p in model.parameters():
        if p.requires_grad:
            nn.init.normal_(p, std=0.2)
    return model.eval()


def steered(steering: str) -> dict[str, Any]:
    return {"dynamics": TINY["dynamics"] | {"backbone": BODY | {"steering": steering}}}


@pytest.mark.parametrize("steering", STEERINGS)
@torch.no_grad()
def test_scores_from_a_cache_equal_those_of_all_frames_computed_anew(steering: str) -> None:
    """Further than the window, with a half-filled frame at the end: within 1e-5."""
    model = build(**steered(steering))
    dynamics = model.dynamics
    tokens = torch.randn(2, 9, 4, 4, generator=Generator().manual_seed(0))
    acts = torch.randint(5, (2, 9), generator=Generator().manual_seed(1))
    hidden = torch.zeros(2, 9, 4, dtype=torch.bool)
    hidden[:, -1, 1:3] = True
    memory = dynamics.body.blank(2, dynamics.masked)
    for t in range(8):
        memory = dynamics.body.keep(*dynamics.enter(tokens[:, t], acts[:, t]), memory)[1]
    cached = dynamics.logits(dynamics.body.peek(*dynamics.enter(tokens[:, 8], acts[:, 8], hidden[:, 8]), memory))
    anew = dynamics.logits(dynamics.body(*dynamics.enter(tokens, acts, hidden))[:, -1])
    assert (cached - anew).abs().max() <= 1e-5
    assert cached.std() > 0.1  # they say something


@torch.no_grad()
def test_a_roll_out_draws_the_frames_that_are_drawn_step_by_step() -> None:
    model = build()
    clip = random_clip(SPEC, 2, 8)
    state = start = at(model.watch(clip.cut(0, 3)), 3)
    roll = model.roll(each(lambda value: value[:, None], start), 5)
    for t in range(3, 8):
        state = model.predict(state, clip.action[:, t], Generator().manual_seed(t))
        rolled = roll(clip.action[:, t], Generator().manual_seed(t))
        assert torch.equal(rolled["words"], state["words"])
        assert torch.allclose(rolled["made"], state["made"], atol=1e-5)


@torch.no_grad()
def test_without_a_generator_the_words_are_the_most_likely_and_with_one_they_vary() -> None:
    model = build()
    state, action = model.encode(random_clip(SPEC, 4, 1).at(0)), CHOICES[[0, 1, 2, 0]]
    likely = model.predict(state, action)["words"]
    assert torch.equal(likely, model.predict(state, action)["words"])
    drawn = [model.predict(state, action, Generator().manual_seed(seed))["words"] for seed in (0, 1)]
    assert not torch.equal(drawn[0], drawn[1])


# ---------------------------------------------------------------------- what actions are


@torch.no_grad()
def test_labels_are_taken_from_the_first_clips_and_give_codes_their_meaning() -> None:
    model = build()
    clip = random_clip(SPEC, 6, 9)
    model.prepare(clip)
    assert model.labels is not None and int(model.labels.known.sum()) == 20
    codes, actions = model.labels.pairs(model.actions.infer)
    pieces = torch.cat([clip.cut(0, 4).action, clip.cut(4, 4).action])[:5]
    assert torch.equal(actions, pieces.flatten(0, 1))
    seen = model.actions.infer(clip.cut(0, 4).obs)[:5].flatten()
    assert torch.equal(codes, seen)
    table = torch.zeros(4, 3)
    for code, action in zip(codes, actions, strict=True):
        table[code] += action
    assert torch.equal(model.meaning().table, table) and model.meaning().count == 20


def test_a_small_batch_gives_fewer_labels() -> None:
    model = build()
    model.prepare(random_clip(SPEC, 2, 3))
    assert model.meaning().count == 6


def test_what_codes_mean_follows_the_latent_action_model() -> None:
    model = build()
    model.prepare(random_clip(SPEC, 6, 9))
    before = model.meaning()
    assert model.meaning() is before
    model.after_step()
    assert model.meaning() is not before


def test_an_action_in_no_labelled_transition_is_refused() -> None:
    model = build()
    clip = random_clip(SPEC, 6, 9)
    clip = replace(clip, action=CHOICES[torch.randint(2, clip.action.shape[:2])])
    model.prepare(clip)
    state = model.encode(clip.at(0))
    model.predict(state, CHOICES[[0, 1, 0, 1, 0, 1]])
    with pytest.raises(UserError, match="action 2 is in none of the 20 labelled transitions"):
        model.predict(state, CHOICES[[0, 1, 2, 1, 0, 1]])


def test_a_model_that_was_never_prepared_takes_actions_as_they_come() -> None:
    model = build()
    assert model.code(CHOICES).tolist() == [0, 1, 2]
    assert model.meaning().count == 0


@torch.no_grad()
def test_played_by_codes_is_the_same_world_with_its_latent_actions() -> None:
    model = build()
    clip = random_clip(SPEC, 3, 6)
    model.prepare(clip)
    played = model.played_by_codes()
    assert played.spec == Spec({"pixels": (16, 16, 3)}, 4, discrete=True)
    state = model.encode(clip.at(0))
    own = model.predict(state, clip.action[:, 0])
    code = torch.eye(4)[model.code(clip.action[:, 0])]
    assert torch.equal(played.predict(state, code)["words"], own["words"])
    told = played.told_by_codes(clip)
    assert torch.equal(told.action.argmax(dim=-1), model.actions.infer(clip.obs))
    assert played.watch(told)["words"].shape == (3, 7, 4, 4)


def test_a_video_without_actions_is_played_by_codes() -> None:
    model = build(Spec({"pixels": (16, 16, 3)}, 0))
    clip = random_clip(model.spec, 3, 5)
    model.prepare(clip)
    assert model.labels is None and model.code(clip.action).unique().tolist() == [model.dynamics.unknown]
    played = model.played_by_codes()
    state = played.imagine(played.encode(clip.at(0)), torch.eye(4)[torch.zeros(3, 2, 3, dtype=torch.long)])
    assert state["words"].shape == (3, 2, 3, 4, 4)


# ---------------------------------------------------------------------- learning


def test_latent_actions_learn_alone_then_are_held_still() -> None:
    model = build(actions=TINY["actions"] | {"steps": 2}).train()
    clip = random_clip(SPEC, 3, 6)
    model.prepare(clip)
    for _ in range(2):
        loss, parts = model.loss(clip)
        assert "actions" in parts and "words" not in parts
        loss.backward()
        model.after_step()
    assert model.dynamics.guess.weight.grad is None
    model.zero_grad()
    loss, parts = model.loss(clip)
    loss.backward()
    assert "words" in parts and "actions" not in parts
    assert model.dynamics.guess.weight.grad is not None
    assert all(p.grad is None for p in model.actions.parameters())


@pytest.mark.parametrize("stop", [1, 4])  # while the tokenizer and the latent actions are taught, and after
def test_a_run_goes_on_in_any_stage_as_if_it_had_not_stopped(stop: int, tmp_path: Path) -> None:
    body = {"dim": 16, "depth": 1, "heads": 2, "mlp": 16}
    codec = {"kind": "vq", "width": 4, "steps": 2, "vq": {"book": {"codes": 8}, "body": body}}

    def begun() -> Genie:
        torch.manual_seed(0)
        values = TINY | {"codec": codec, "actions": TINY["actions"] | {"steps": 3, "keep": 0.5}}
        return Genie(GenieConfig.model_validate(values), SPEC)

    class Batches:
        def __init__(self, end: int) -> None:
            self.end = end

        def batch(self, step: int) -> Clip:
            if step == self.end:
                raise RuntimeError("stopped")
            return random_clip(SPEC, 3, 4, seed=step)

    config = TrainConfig(steps=5, lr=1e-2, weight_decay=0.1, device="cpu")
    whole = train(begun(), Batches(5), config).state_dict()
    with pytest.raises(RuntimeError, match="stopped"):
        train(begun(), Batches(stop), config, tmp_path)
    again = train(begun(), Batches(5), config, tmp_path, resume=True).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in whole.items())


def test_dynamics_do_not_teach_the_latent_actions() -> None:
    model = build().train()
    clip = random_clip(SPEC, 3, 6)
    model._dynamics_loss(clip)["words"].backward()
    assert all(p.grad is None for p in model.actions.parameters())


def test_actions_of_the_clips_change_no_loss() -> None:
    """Nothing but the labels is learned from them."""
    model, clip = build(), random_clip(SPEC, 3, 6)
    losses = []
    for some in (clip, replace(clip, action=clip.action.roll(1, dims=-1))):
        torch.manual_seed(1)
        losses.append(model.loss(some)[0])
    assert torch.equal(*losses)


@torch.no_grad()
def test_what_is_done_across_the_end_of_an_episode_is_unknown() -> None:
    model = build(actions=TINY["actions"] | {"skip": 1})
    clip = random_clip(SPEC, 2, 6)
    first = torch.zeros(2, 7, dtype=torch.bool)
    first[1, 3] = True
    counted = model.actions.counted(replace(clip, first=first))
    assert counted.tolist() == [[False, True, True, True, True, True], [False, True, False, False, True, True]]


# ---------------------------------------------------------------------- what does not fit


def test_frames_of_another_size_are_refused() -> None:
    model = build()
    with pytest.raises(UserError, match="24×16×3"):
        model.encode({"pixels": torch.zeros(1, 24, 16, 3, dtype=torch.uint8)})


def test_actions_of_another_size_are_refused() -> None:
    model = build()
    state = model.encode(random_clip(SPEC, 1, 1).at(0))
    with pytest.raises(UserError, match="an action has 2 numbers"):
        model.predict(state, torch.zeros(1, 2))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"codec": {"kind": "mae"}}, "choose pca, vq or fsq"),
        ({"bins": 10}, "odd number"),
        ({"played": "codes"}, "4 choices"),
        ({"dynamics": {"backbone": BODY | {"causal": False, "steering": "token"}}}, "frame by frame"),
        ({"actions": {"backbone": BODY | {"steering": "token"}}}, "leave it at none"),
        ({"labels": {"length": 1}, "actions": TINY["actions"] | {"skip": 1}}, "choose more"),
        ({"codec": {"checkpoint": "no/such/run"}}, "no/such/run"),
    ],
)
def test_settings_that_do_not_fit_are_refused(words: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        build(**words)


def test_a_world_without_pictures_is_refused() -> None:
    with pytest.raises(UserError, match="pictures only"):
        build(Spec({"speed": (3,)}, 2))


def test_clips_too_short_to_tell_a_step_are_refused() -> None:
    model = build(actions=TINY["actions"] | {"skip": 1})
    with pytest.raises(UserError, match=r"longer ones than actions\.skip=1"):
        model.loss(random_clip(SPEC, 2, 1))


def test_reward_is_told_only_with_its_head() -> None:
    clip = random_clip(SPEC, 2, 3)
    with pytest.raises(UserError, match="left the reward's head out"):
        build().prospects(build().encode(clip.at(0)))
    acting = build(reward=0.1, continues=0.1)
    reward, going = acting.prospects(acting.encode(clip.at(0)))
    assert reward.shape == going.shape == (2,)
    assert {"reward", "continue", "words"} <= set(acting.loss(clip)[1])


def test_energy_is_the_squared_error_of_pixels() -> None:
    model = build()
    states = [model.encode(random_clip(SPEC, 2, 1, seed).at(0)) for seed in (0, 1)]
    seen = [model.decode(state)["pixels"] for state in states]
    expected: Tensor = (seen[0] - seen[1]).square().mean(dim=(1, 2, 3))
    assert torch.allclose(model.energy(*states), expected)


def test_presets_have_the_sizes_that_they_name() -> None:
    """At 64×64 pixels, with the parameters that docs/families/genie.md tells."""
    spec = Spec({"pixels": (64, 64, 3)}, 15, discrete=True)
    for name, tokens, codes, sizes in (
        ("coinrun", 256, 6, [50_555_984, 67_925_472, 51_089_920]),
        ("jasmine", 16, 6, [26_074_912, 34_317_792, 26_024_448]),
        ("tinyworlds", 256, 4, [105_269, 88_194, 253_376]),
    ):
        with torch.device("meta"):  # only counted
            model = Genie(cast(GenieConfig, Genie.presets[name]), spec)
        assert (model.dynamics.body.s, model.actions.codes, model.words.classes) == (tokens, codes, 1024)
        parts = (model.words, model.actions, model.dynamics)
        assert [sum(p.numel() for p in part.parameters() if p.requires_grad) for part in parts] == sizes
