"""Sequence models: sizes as published, beliefs along a clip, and imagining from all of them at once."""

from dataclasses import replace
from typing import cast

import pytest
import torch
from torch import Generator, nn

from innerworld import space
from innerworld.errors import UserError
from innerworld.models import build, config
from innerworld.models.remembered import MEMORY
from innerworld.models.sequence import SequenceModel
from innerworld.nn.backbone.absolute import AbsoluteTransformer
from innerworld.testing.world_model import random_clip
from innerworld.types import Spec, State, each, random_actions
from innerworld.world import flatten

ATARI = Spec({"pixels": (64, 64, 3)}, 6, discrete=True)
VECTOR = Spec({"state": (5,)}, 2)
TINY = ["stoch=4", "posterior_units=16", "prior_units=16", "units=16", "backbone.dim=16", "backbone.heads=2"]
TINY += [
    "backbone.mlp=16",
    "backbone.window=4",
    "backbone.state=8",
    "backbone.mamba2.head=8",
    "backbone.mamba2.state=4",
]
TINY += ["backbone.attention_every=2", "backbone.feed=12"]
KINDS = {kind: [f"backbone.kind={kind}"] for kind in ("attention", "mamba2", "s4", "s4d", "s5", "gru", "hybrid")}
KINDS["relative"] = ["backbone.positions=relative"]
KINDS["learned"] = ["backbone.positions=learned", "backbone.window=32", "backbone.context=16"]
KINDS["sines"] = ["backbone.positions=sines", "backbone.window=32", "backbone.context=16", "backbone.every=true"]
everywhere = pytest.mark.parametrize("kind", KINDS)


def _made(kind: str, *words: str) -> SequenceModel:
    torch.manual_seed(0)
    model = build("sequence", config("sequence", None, [*TINY, *KINDS[kind], *words]), VECTOR)
    assert isinstance(model, SequenceModel)
    return model.eval()


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# ------------------------------------------------------------------ as published


@pytest.mark.parametrize(
    ("preset", "total", "parts"),
    [
        (
            "storm",  # weipu-zhang/STORM with 6 actions: 16.51 M, decoder 4.88, transformer 5.03 with stem, heads 4.72
            16_507_011,
            {"encoder": 690_624, "posterior": 4_195_328, "prior": 525_312, "stem": 791_552, "backbone": 4_235_264}
            | {"decoder": 4_884_931, "reward": 657_151, "continues": 526_849},
        ),
        (
            "drama",  # realwenlongwang/drama with 6 actions: 7.16 M, sequence 3.74 with stem
            7_155_459,
            {"encoder": 232_272, "posterior": 1_049_600, "prior": 525_312, "stem": 528_384, "backbone": 3_209_120}
            | {"decoder": 1_281_811, "reward": 197_119, "continues": 131_841},
        ),
    ],
)
def test_sizes_as_published(preset: str, total: int, parts: dict[str, int]) -> None:
    model = build("sequence", config("sequence", preset), ATARI)
    assert {name: _size(model.get_submodule(name)) for name in parts} == parts
    assert _size(model) == total == sum(parts.values())


def test_transdreamer_has_the_published_sequence_model() -> None:
    """Six layers of 2,461,624 whose outputs lie side by side; grey pictures and 18 actions make 41.03 M."""
    model = build("sequence", config("sequence", "transdreamer"), Spec({"pixels": (64, 64, 1)}, 18, discrete=True))
    assert _size(model.get_submodule("backbone")) == 6 * 2_461_624
    assert model.deter == 3600 and _size(model) == 41_027_723


def test_small_ones_are_of_one_size() -> None:
    sizes = [
        _size(build("sequence", config("sequence", name), ATARI))
        for name in SequenceModel.presets
        if name.startswith("small")
    ]
    assert len(sizes) == 6 and max(sizes) < 1.005 * min(sizes)


# ------------------------------------------------------------------ beliefs along a clip


@everywhere
def test_all_times_at_once_are_what_looks_one_by_one_believe(kind: str) -> None:
    """With an episode that begins within the clip; also what the memory then predicts."""
    model, clip = _made(kind), random_clip(VECTOR, b=3, t=9)
    first = torch.zeros(3, 10, dtype=torch.bool)
    first[1, 4] = first[2, 0] = first[0, 9] = True
    clip = replace(clip, first=first)
    with torch.no_grad():
        found = model.watch(clip)
        for row in range(3):
            state: State = {}
            for t in range(10):
                obs = each(lambda value, row=row, t=t: value[row : row + 1, t], clip.obs)
                begins = t == 0 or bool(first[row, t])
                action = clip.action[row : row + 1, t - 1]
                state = model.encode(obs) if begins else model.encode(obs, state, action)
                here = each(lambda value, row=row, t=t: value[row : row + 1, t], found)
                for one, two in ((here, state), (_ahead(model, here), _ahead(model, state))):
                    torch.testing.assert_close(model.features(one), model.features(two), rtol=0, atol=2e-5)


def _ahead(model: SequenceModel, state: State) -> State:
    for action in (torch.full((1, 2), 0.3), torch.full((1, 2), -0.9)):
        state = model.predict(state, action)
    return state


def test_the_loss_does_not_depend_on_what_is_remembered_of_it() -> None:
    model, clip = _made("hybrid"), random_clip(VECTOR, b=2, t=6)
    torch.manual_seed(1)
    loss, _ = model.loss(clip)
    torch.manual_seed(1)
    again, _, beliefs = model.study(clip)
    torch.testing.assert_close(again, loss, rtol=1e-5, atol=1e-6)
    assert not any(value.requires_grad for name, value in beliefs.items() if name.startswith(MEMORY))
    assert beliefs["deter"].requires_grad and bool((beliefs["deter"][:, 0] == 0).all())


def test_a_blank_memory_guesses_nothing() -> None:
    """What is seen first in a clip costs no KL: only the decoder and the heads tell of it."""
    model, clip = _made("gru"), random_clip(VECTOR, b=2, t=3)
    seen: list[torch.Tensor] = []
    model.prior.register_forward_hook(lambda module, given, told: seen.append(given[0]))
    model.loss(replace(clip, first=torch.tensor([[True, False, True, False], [False] * 4])))
    assert seen[0].shape == (2 + 3, 16)  # of 8 beliefs without three: twice time 0, and where an episode begins


def test_where_nothing_is_guessed_no_kl_counts() -> None:
    """As in the shortest clip, within which an episode begins: its loss and its gradients are finite."""
    clip = replace(random_clip(VECTOR, b=2, t=1), first=torch.ones(2, 2, dtype=torch.bool))
    for free in ("each", "mean"):
        model = _made("gru", f"free={free}")
        loss, parts = model.loss(clip)
        loss.backward()
        assert parts["kl"] == 0 and bool(loss.isfinite())
        assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("kind", ["hybrid", "learned"])
def test_recomputing_changes_nothing(kind: str) -> None:
    clip, found = random_clip(VECTOR, b=2, t=6), []
    for recompute in ("false", "true"):
        model = _made(kind, f"recompute={recompute}", "backbone.dropout=0.1").train()
        if kind == "learned":
            assert cast(AbsoluteTransformer, model.backbone).recompute == (recompute == "true")
        torch.manual_seed(1)
        loss, _, _ = model.study(clip)
        loss.backward()
        found.append([loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------ imagining


@everywhere
def test_imagining_from_every_belief_is_a_loop_over_predict(kind: str) -> None:
    """What starts share is computed once; longer than the window; the same draws."""
    model, clip = _made(kind), random_clip(VECTOR, b=2, t=7)
    actions = random_actions(VECTOR, (6, 2 * 8), Generator().manual_seed(2))
    with torch.no_grad():
        beliefs = model.watch(clip)
        roll, state = model.roll(beliefs, 6), flatten(beliefs, 2)
        fast, slow = Generator().manual_seed(3), Generator().manual_seed(3)
        for action in actions:
            told, state = roll(action, fast), model.predict(state, action, slow)
            torch.testing.assert_close(model.features(told), model.features(state), rtol=0, atol=2e-5)
            assert told.keys() == model.bare(state).keys()


def test_gradients_reach_actions_through_a_roll() -> None:
    """As an actor that learns through the world model needs them."""
    for kind in ("attention", "mamba2", "s4d", "gru"):
        model, clip = _made(kind), random_clip(VECTOR, b=2, t=3)
        beliefs = each(torch.Tensor.detach, model.watch(clip))
        found = []
        for fast in (True, False):
            action = torch.full((8, 2), 0.2, requires_grad=True)
            roll, state = model.roll(beliefs, 3), flatten(beliefs, 2)
            for _ in range(3):
                state = roll(action, None) if fast else model.predict(state, action)
            found.append(torch.autograd.grad(model.features(state).square().sum(), action)[0])
        torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6)


# ------------------------------------------------------------------ what cannot be


def test_a_dream_that_would_not_fit_is_refused_before_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    model = _made("attention", "backbone.window=100000")
    with pytest.raises(UserError, match=r"imagining 90000 steps from 2 beliefs needs .* GiB"):
        monkeypatch.setattr(space, "free_bytes", lambda device: 2**20)
        model.roll(each(lambda value: value[:, None], model.encode({"state": torch.zeros(2, 5)})), 90000)


def test_further_than_learned_positions_is_refused() -> None:
    model = _made("learned")
    state = model.encode({"state": torch.zeros(2, 5)})
    with pytest.raises(UserError, match="positions"):
        model.imagine(state, torch.zeros(2, 1, 33, 2))


def test_a_memory_of_other_rows_is_refused() -> None:
    for kind in ("attention", "mamba2", "s4", "gru"):
        model = _made(kind)
        state = model.encode({"state": torch.zeros(3, 5)})
        few = {name: value[:2] if name.startswith(MEMORY) else value for name, value in state.items()}
        with pytest.raises(UserError, match="3"):
            model.predict(few, torch.zeros(3, 2))


def test_a_hybrid_has_attention() -> None:
    with pytest.raises(UserError, match="2 layers with attention in every 8th has none"):
        _made("mamba2", "backbone.kind=hybrid", "backbone.attention_every=8")


def test_absolute_positions_do_not_mix_with_other_layers() -> None:
    with pytest.raises(UserError, match="rotary or relative"):
        _made("hybrid", "backbone.positions=learned")
