"""Control: a branch that is silent at the start, learns what it is told, and leaves a trunk that is held still."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from innerworld import checkpoint
from innerworld.errors import UserError
from innerworld.models.video import Video
from innerworld.models.video_config import VideoConfig
from innerworld.nn.edges import edges
from innerworld.testing import check_world_model
from innerworld.testing.world_model import check_saved, random_clip
from innerworld.types import Clip, Spec
from innerworld.world import at, stack

SPEC = Spec({"pixels": (16, 16, 3)}, 2)
DEEP = Spec({"pixels": (16, 16, 3), "speed": (3,), "depth": (8, 8, 1)}, 2)
BODY = {"dim": 16, "depth": 4, "heads": 2, "mlp": 2.0, "window": 3}
TINY: dict[str, Any] = {
    "codec": {"width": 4},
    "backbone": BODY,
    "steps": 2,
    "reward": 0.0,
    "continues": 0.0,
    "units": 16,
    "bins": 11,
}
KINDS: dict[str, dict[str, Any]] = {
    "adaln": {},
    "token": {"backbone": BODY | {"steering": "token", "time_every": 2, "feeds": "each"}},
    "not causal": {"noise": "shared", "blank": 0.0, "backbone": BODY | {"causal": False, "window": 7}},
}
EDGES: dict[str, Any] = {"control": {"kind": "edges"}}
DEPTH: dict[str, Any] = {"control": {"kind": "map", "sensor": "depth"}}


def build(spec: Spec = SPEC, silent: bool = False, **words: Any) -> Video:
    """With a trunk whose weights are nowhere zero; the branch copies it and is silent, or has weights of its own."""
    torch.manual_seed(0)
    model = Video(VideoConfig.model_validate(TINY | words), spec)
    side = model.net.body.side
    own = set() if side is None else {id(p) for p in side.parameters()}
    for p in model.net.parameters():
        if p.requires_grad and id(p) not in own:
            nn.init.normal_(p, std=0.2)
    if side is not None:
        side.copy(list(model.net.body.blocks), model.net.body.by)
        for p in [] if silent else [side.enter.weight, *side.leave.parameters()]:
            nn.init.normal_(p, std=0.2)
    return model.eval()


def believed(model: Video, clip: Clip) -> dict[str, Tensor]:
    return at(model.watch(clip.cut(0, 2)), 2)


def found(p: Tensor) -> bool:
    """Does a gradient reach it?"""
    return p.grad is not None and bool(p.grad.any())


def loss_of(model: Video, clip: Clip) -> Tensor:
    torch.manual_seed(3)
    return model.train().loss(clip)[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("control", "spec"), [(EDGES, SPEC), (DEPTH, DEEP)], ids=["edges", "depth"])
@torch.no_grad()
def test_at_the_start_it_is_the_model_without_control(kind: str, control: dict[str, Any], spec: Spec) -> None:
    """To the last bit: the loss in training, and frames that are drawn under control."""
    plain = build(spec.only(*[name for name in spec.obs if name != "depth"]), **KINDS[kind])
    model = build(spec, silent=True, **KINDS[kind], **control)
    clip = random_clip(spec, 2, 6)
    assert torch.equal(loss_of(plain, clip), loss_of(model, clip))
    state, other = believed(plain.eval(), clip), believed(model.eval(), clip)
    drawn = model.transfer(other, clip.action[:, 2:], model.maps(clip.obs)[:, 3:], Generator().manual_seed(5))
    rng = Generator().manual_seed(5)
    for t in range(2, 6):
        state = plain.predict(state, clip.action[:, t], rng)
        assert torch.equal(drawn["z"][:, t - 2], state["z"]) and torch.equal(drawn["made"][:, t - 2], state["made"])


def test_building_a_branch_draws_nothing_from_chance() -> None:
    built = []
    for words in ({}, EDGES):
        torch.manual_seed(1)
        built.append(Video(VideoConfig.model_validate(TINY | {"reward": 0.1} | words), SPEC))
    plain, model = built
    state = model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in plain.state_dict().items())
    side = model.net.body.side
    assert side is not None and side.at == (0, 2)
    for mine, i in zip(side.blocks, side.at, strict=True):
        assert all(
            torch.equal(a, b) for a, b in zip(mine.parameters(), model.net.body.blocks[i].parameters(), strict=True)
        )


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_without_a_map_a_belief_is_the_trunks(kind: str) -> None:
    """Also of a branch that learnt; a weight of 0 is no map, half a weight is between."""
    model, plain = build(**KINDS[kind], **EDGES), build(**KINDS[kind])
    plain.load_state_dict({name: value for name, value in model.state_dict().items() if ".side." not in name})
    clip = random_clip(SPEC, 2, 6)
    assert torch.equal(model.watch(clip)["made"], plain.watch(clip)["made"])
    state, maps = believed(model, clip), model.maps(clip.obs)[:, 3:]
    imagined, now = [], state
    for t in range(2, 6):
        now = model.predict(now, clip.action[:, t])
        imagined.append(model.bare(now))
    none, half, full = (model.transfer(state, clip.action[:, 2:], maps, weight=w)["z"] for w in (0.0, 0.5, 1.0))
    assert torch.equal(none, stack(imagined)["z"])
    assert not torch.equal(half, none) and not torch.equal(half, full)


@pytest.mark.parametrize("kind", ["adaln", "token"])
@torch.no_grad()
def test_cached_frames_equal_those_computed_anew(kind: str) -> None:
    """Two frames seen, five asked for, twice as far as the window: at each, all frames at once and no memory."""
    words = KINDS[kind] | {"context": 0.9, "blank": 0.0}
    model, clip = build(**words, **EDGES), random_clip(SPEC, 2, 6)
    maps = model.maps(clip.obs)
    drawn = model.transfer(
        at(model.watch(clip.cut(0, 1)), 1), clip.action[:, 1:], maps[:, 2:], Generator().manual_seed(7)
    )
    assert model.control is not None
    shown = torch.tensor([0.0, 0, 1, 1, 1, 1, 1]).expand(2, -1)
    told, acts, rng = model.control.told(maps, shown), model._acts(clip), Generator().manual_seed(7)
    tokens = [model.codec.look(clip.at(t)) for t in range(2)]
    for t in range(2, 7):
        x, f = torch.randn(2, 4, 4, generator=rng), t + 1
        for i in range(2):
            levels = torch.tensor([0.9] * t + [i / 2]).expand(2, -1)
            past = torch.stack(tokens, dim=1)
            frames = torch.cat([model.flow.mix(past, torch.zeros_like(past), levels[:, :-1]), x[:, None]], dim=1)
            steer = model.net.steer(levels, acts[:, :f])
            clean = model.net.leave(model.net.body(model.net.enter(frames), steer, None, told[:, :f])[:, -1])
            x = clean if i else model.flow.moved(x, clean, torch.zeros(2), torch.full((2,), 0.5))
        tokens.append(x)
        assert torch.allclose(drawn["z"][:, t - 2], x, atol=1e-5)


@torch.no_grad()
def test_a_map_tells_of_its_own_frame_and_those_after_it() -> None:
    model, clip = build(DEEP, **DEPTH), random_clip(DEEP, 1, 6)
    state, maps = believed(model, clip), clip.obs["depth"][:, 3:]
    changed = maps.clone()
    changed[:, 1] = 255 - changed[:, 1]
    one, other = (model.transfer(state, clip.action[:, 2:], m)["z"] for m in (maps, changed))
    assert (one != other).flatten(2).any(-1)[0].tolist() == [False, True, True, True]
    floats = model.transfer(state, clip.action[:, 2:], maps.float() / 255)["z"]
    assert torch.equal(one, floats)


def test_training_teaches_the_branch_and_a_frozen_trunk_stays(tmp_path: Path) -> None:
    """From a run's weights: the first step reaches the ways out, the second the way in; then maps change frames."""
    trunk, clip = build(), random_clip(SPEC, 4, 6)
    trunk.prepare(clip)
    checkpoint.save(tmp_path, trunk, None, 0, None)
    words = {"control": EDGES["control"] | {"trunk": str(tmp_path), "train_trunk": False, "late": 0.0}}
    model = Video(VideoConfig.model_validate({"steps": 9} | words), SPEC)
    side = model.net.body.side
    assert side is not None and model.settings.steps == 2 and model.settings.control.trunk is None
    assert torch.equal(loss_of(model, clip), loss_of(trunk, clip))
    state, maps = believed(model.eval(), clip), model.maps(clip.obs)[:, 3:]
    silent = model.transfer(state, clip.action[:, 2:], maps)["z"]
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    moved: list[bool] = []
    for _ in range(4):
        optimiser.zero_grad()
        model.train().loss(clip)[0].backward()
        assert all((p.grad is not None) == (".side." in name) for name, p in model.named_parameters())
        assert all(found(p) for p in side.leave.parameters())
        moved.append(found(side.enter.weight))
        optimiser.step()
        model.prepare(clip)  # as a loop would: it must not move the trunk's tokens
        model.after_step()
    assert moved == [False, True, True, True]
    for name, value in trunk.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    with torch.no_grad():
        learnt, other = (model.eval().transfer(state, clip.action[:, 2:], m)["z"] for m in (maps, maps.flip(0)))
    assert not torch.allclose(learnt, silent) and not torch.allclose(learnt, other)
    again = check_saved(model)  # needs the trunk's folder no more
    assert torch.equal(again.transfer(state, clip.action[:, 2:], maps)["z"], learnt)
    assert not any(p.requires_grad for n, p in again.named_parameters() if ".side." not in n)
    fresh = Video(model.settings, SPEC)
    with pytest.raises(UserError, match="the trunk is missing"):
        fresh.encode(clip.at(0))


def test_edges_are_learnt_so_that_frames_follow_them() -> None:
    """A bar at a random column: what is drawn has its bar where the map has it, whatever was seen before."""
    torch.manual_seed(0)
    spec = Spec({"pixels": (16, 16, 1)}, 1)

    def bars(n: int) -> Clip:
        column = torch.randint(0, 4, (n, 5)) * 4
        near = (torch.arange(16) - column[..., None]).clamp(-1, 4)
        pixels = ((near >= 0) & (near < 4)).to(torch.uint8)[:, :, None, :, None].expand(-1, -1, 16, -1, -1) * 200
        return Clip({"pixels": pixels}, torch.zeros(n, 4, 1), torch.zeros(n, 4), torch.zeros(n, 4, dtype=torch.bool))

    model = Video(VideoConfig.model_validate(TINY | EDGES | {"blank": 0.5, "backbone": BODY | {"depth": 2}}), spec)
    model.prepare(bars(32))
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(60):
        optimiser.zero_grad()
        model.train().loss(bars(8))[0].backward()
        optimiser.step()
    clip = bars(16)
    with torch.no_grad():
        state = model.eval().encode(clip.at(0))
        errors = []
        for maps in (model.maps(clip.obs)[:, 1:], model.maps(clip.obs)[:, 1:].flip(0)):
            shown = model.decode(
                {"z": model.transfer(state, clip.action, maps)["z"].flatten(0, 1), "made": state["made"]}
            )
            errors.append(float((shown["pixels"] * 255 - clip.obs["pixels"][:, 1:].flatten(0, 1)).square().mean()))
    assert errors[0] < 0.3 * errors[1]


@pytest.mark.parametrize(
    ("spec", "words"),
    [(DEEP, DEPTH), (DEEP, KINDS["not causal"] | DEPTH), (SPEC, KINDS["token"] | EDGES)],
    ids=["depth", "not causal", "edges"],
)
def test_it_keeps_the_contract(spec: Spec, words: dict[str, Any]) -> None:
    config = VideoConfig.model_validate(TINY | words)
    check_world_model(lambda spec: Video(config, spec), spec)


def test_maps_are_shown_late_in_training_alone() -> None:
    model, clip = build(**EDGES), random_clip(SPEC, 64, 6)
    told = model.train()._told(clip)
    assert told is not None
    shown = told[..., 0, -1] > 0
    assert bool((shown[:, 1:] >= shown[:, :-1]).all()), "once shown, they go on to be"
    assert 0.3 < float(shown.all(dim=1).float().mean()) < 0.8 and not bool(shown.any(dim=1).all())
    assert not told[..., :-1][~shown].any()
    told = model.eval()._told(clip)
    assert told is not None and bool((told[..., -1] == 1).all())
    cut = told[..., :-1].unflatten(2, (2, 2)).unflatten(-1, (8, 8)).transpose(3, 4).flatten(4, 5).flatten(2, 3)
    assert torch.equal(cut, edges(clip.obs["pixels"], 0.1)[..., 0])


def test_maps_that_do_not_fit_are_refused() -> None:
    model, clip = build(DEEP, **DEPTH), random_clip(DEEP, 2, 6)
    state, actions, maps = believed(model, clip), clip.action[:, 2:], clip.obs["depth"][:, 3:]
    for wrong, says in (
        (maps[:, :, :4], "4×8×1 .y, x, channels., this model was made for 8×8×1"),
        (maps.expand(-1, -1, -1, -1, 3), "8×8×3"),
        (maps[:, 1:], r"\(2, 3, 8, 8, 1\), wanted \(2, 4, 8, 8, 1\): one map for each action"),
        (maps[0], "wanted"),
        (maps.float(), r"beyond \[0, 1\]"),
        (torch.full(maps.shape, torch.nan), r"beyond \[0, 1\]"),
    ):
        with pytest.raises(UserError, match=says):
            model.transfer(state, actions, wrong)
    for few in (actions[:1], actions[:, :0], actions[:, 0]):
        with pytest.raises(UserError, match=r"wanted \(2, h, a\)"):
            model.transfer(state, few, maps)
    blind = Clip({k: v for k, v in clip.obs.items() if k != "depth"}, clip.action, clip.reward, clip.terminated)
    with pytest.raises(UserError, match="controlled by 'depth', which is not in what is seen: pixels, speed"):
        model.loss(blind)
    large = Clip(clip.obs | {"depth": clip.obs["pixels"]}, clip.action, clip.reward, clip.terminated)
    with pytest.raises(UserError, match="16×16×3"):
        model.loss(large)
    with pytest.raises(UserError, match="no control branch"):
        build().transfer(believed(build(), clip), actions, maps)
    with pytest.raises(UserError, match="no control branch"):
        build().maps(clip.obs)
    with pytest.raises(UserError, match="edges of 'pixels', one channel"):
        build(**EDGES).transfer(believed(build(**EDGES), clip), actions, clip.obs["pixels"][:, 3:])


@pytest.mark.parametrize(
    ("spec", "control", "says"),
    [
        (SPEC, {"kind": "map"}, r"control.sensor=\(none\)"),
        (DEEP, {"kind": "map", "sensor": "deep"}, "there are pixels, speed, depth"),
        (DEEP, {"kind": "map", "sensor": "speed"}, "name the picture"),
        (SPEC, {"kind": "map", "sensor": "pixels"}, "only sensor"),
        (Spec({"pixels": (16, 16, 3), "depth": (9, 9, 1)}, 2), DEPTH["control"], "9×9 cannot be shared among 2×2"),
        (Spec({"speed": (3,)}, 2), {"kind": "edges"}, "no picture among"),
        (SPEC, {"kind": "edges", "sensor": "pixel"}, "Did you mean"),
        (DEEP, {"kind": "edges", "sensor": "speed"}, "unknown picture 'speed'"),
        (SPEC, {"kind": "edges", "copies": 5}, "has 4"),
        (SPEC, {"kind": "none", "trunk": "runs/video"}, "choose control.kind"),
        (SPEC, {"kind": "edges", "train_trunk": False}, "never taught"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_refused(spec: Spec, control: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        build(spec, control=control)


def test_a_trunk_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "own", build(**EDGES), None, 0, None)
    checkpoint.save(tmp_path / "plain", build(), None, 0, None)
    taught = build(codec={"kind": "fsq", "patch": 8, "steps": 2})
    checkpoint.save(tmp_path / "codec", taught, None, 0, None)

    def begun(name: str, spec: Spec) -> Video:
        return build(spec, control={"kind": "edges", "trunk": str(tmp_path / name)})

    with pytest.raises(UserError, match="has a control branch itself"):
        begun("own", SPEC)
    with pytest.raises(UserError, match="teaching its codec"):
        begun("codec", SPEC)
    with pytest.raises(UserError, match="made for pixels 16×16×3 and actions of 2 numbers, here are pixels 24×24×3"):
        begun("plain", Spec({"pixels": (24, 24, 3)}, 2))
    assert begun("plain", SPEC).settings.control.origin == str(tmp_path / "plain")
