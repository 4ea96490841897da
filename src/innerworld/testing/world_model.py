"""`check_world_model`: what every family must keep, as one function that anybody can run on a class of theirs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Generator, Tensor

from innerworld import checkpoint
from innerworld.learns import L, Learns
from innerworld.types import Clip, Spec, State, each, random_actions
from innerworld.world import WorldModel, at, candidates, flatten, stack

Build = Callable[[Spec], WorldModel]
TOLERANCE = 1e-4  # between two ways to compute the same number in float32, relative to its size
PACKED = 1e-2  # between a belief and what a replay kept of it, likewise


def check_world_model(build: Build, spec: Spec, overfit_steps: int = 150) -> None:
    """Raise `AssertionError`, with a sentence, unless `build(spec)` keeps the contract of `WorldModel`.

    Checked: shapes of every verb; nothing given is changed; rows of a batch are independent; `watch` equals `encode`
    step by step; `imagine` equals a loop over `predict`; `dream` follows its policy; a goal is its own best match;
    the same seed gives the same result; a family that `restarts` forgets where an episode begins within a clip, and
    goes on from a past that was packed; save and load are bit-exact; every parameter gets a gradient and one clip can
    be overfitted (both only where there is something to learn).
    """
    torch.manual_seed(0)
    model = build(spec).eval()
    clip = random_clip(spec, b=3, t=5)
    with torch.no_grad():
        _shapes(model, clip)
        _no_mutation(model, random_clip(spec, b=3, t=1, seed=1))  # a fresh one, which nothing has changed yet
        _independent_rows(model, clip)
        _watch_is_encode(model, clip)
        _imagine_is_predict(model, clip)
        _dream_follows(model, clip)
        _goal_matches_itself(model, clip)
        _same_seed(build, spec, clip)
        _decode_fits(model, clip)
        if model.restarts:
            _restarts(model, clip)
    if any(p.requires_grad for p in model.parameters()):
        _save_and_load(model, clip)
        check_gradients(model, clip)
        check_overfits(build(spec), clip, overfit_steps)


def random_clip(spec: Spec, b: int, t: int, seed: int = 0) -> Clip:
    """A clip of noise that fits `spec`, with valid actions."""
    rng = Generator().manual_seed(seed)
    obs = {}
    for name, shape in spec.obs.items():
        if len(shape) == 3:
            obs[name] = torch.randint(0, 256, (b, t + 1, *shape), generator=rng, dtype=torch.uint8)
        else:
            obs[name] = torch.randn(b, t + 1, *shape, generator=rng)
    return Clip(
        obs, random_actions(spec, (b, t), rng), torch.randn(b, t, generator=rng), torch.zeros(b, t, dtype=torch.bool)
    )


def _shapes(model: WorldModel, clip: Clip) -> None:
    b = clip.action.shape[0]
    state = model.encode(clip.at(0))
    for label, found in (
        ("encode", state),
        ("encode with a past", model.encode(clip.at(1), state, clip.action[:, 0])),
        ("predict", model.predict(state, clip.action[:, 0])),
        ("predict with rng", model.predict(state, clip.action[:, 0], Generator().manual_seed(0))),
    ):
        assert found.keys() == state.keys(), f"{label} returns {sorted(found)}, encode returns {sorted(state)}"
        for name, value in found.items():
            assert value.shape == state[name].shape, f"{label}: {name} has shape {tuple(value.shape)}, not constant"
            assert value.shape[0] == b, f"{label}: {name} has shape {tuple(value.shape)}, expected b = {b} first"
    energy = model.energy(state, state)
    assert energy.shape == (b,), f"energy has shape {tuple(energy.shape)}, expected ({b},)"
    features = model.features(state)
    assert features.ndim == 2 and features.shape[0] == b, f"features have shape {tuple(features.shape)}, expected b d"
    loss, parts = model.loss(clip)
    assert loss.ndim == 0 and bool(loss.isfinite()), f"loss is {loss}, expected a finite scalar"
    assert parts and all(torch.as_tensor(part).ndim == 0 for part in parts.values()), "loss needs named scalar parts"


def _no_mutation(model: WorldModel, clip: Clip) -> None:
    now, after = each(Tensor.clone, clip.at(0)), each(Tensor.clone, clip.at(1))
    state = model.encode(clip.at(0))
    before = each(Tensor.clone, state)
    action = clip.action[:, 0].clone()
    model.predict(state, action)
    model.imagine(state, clip.action[:, None])
    model.encode(clip.at(1), state, action)
    for name, value in state.items():
        assert torch.equal(value, before[name]), f"predict, imagine or encode changed the state's {name}"
    assert torch.equal(action, clip.action[:, 0]), "predict changed its action"
    assert _same(now, clip.at(0)) and _same(after, clip.at(1)), "encode changed what it was shown"


def _independent_rows(model: WorldModel, clip: Clip) -> None:
    together = model.watch(clip)
    actions = clip.action[:, None].expand(-1, 2, -1, -1)
    futures = model.imagine(at(together, 0), actions)
    for b in (2, 1):  # 2 first: batch statistics of a single row are an error, which says less
        few = model.watch(clip.rows(slice(0, b)))
        _close(model, each(lambda value, b=b: value[:b], together), few, "a row of watch depends on other rows")
        future = model.imagine(each(lambda value, b=b: value[:b, 0], together), actions[:b])
        first = each(lambda value, b=b: value[:b], futures)
        _close(model, first, future, "a row of imagine depends on other rows", axes=3)


def _watch_is_encode(model: WorldModel, clip: Clip) -> None:
    _close(model, model.watch(clip), WorldModel.watch(model, clip), "watch differs from encode step by step", axes=2)
    look = clip.cut(0, 0)
    _close(
        model, model.watch(look), WorldModel.watch(model, look), "watch of a single look differs from encode", axes=2
    )


def _imagine_is_predict(model: WorldModel, clip: Clip) -> None:
    """From a state with a past, so that a shared past is put to use; longer than most windows."""
    state = at(model.watch(clip), clip.length)
    actions = random_actions(model.spec, (clip.action.shape[0], 4, 6), Generator().manual_seed(1))
    fast = model.imagine(state, actions)
    each_of, steps = candidates(state, 4), []
    for action in actions.flatten(0, 1).unbind(dim=1):
        each_of = model.predict(each_of, action)
        steps.append({name: each_of[name] for name in fast})
    slow = each(lambda value: value.unflatten(0, actions.shape[:2]), stack(steps))
    _close(model, fast, slow, "imagine differs from a loop over predict", axes=3)


def _dream_follows(model: WorldModel, clip: Clip) -> None:
    state = model.encode(clip.at(0))
    states, actions = model.dream(state, lambda _: clip.action[:, 0], 3)
    assert torch.equal(actions, clip.action[:, :1].expand(-1, 3, -1)), "dream did not take its policy's actions"
    expected = model.imagine(state, actions[:, None])
    _close(model, states, each(lambda value: value[:, 0], expected), "dream differs from imagine", axes=2)


def _goal_matches_itself(model: WorldModel, clip: Clip) -> None:
    goals = model.encode(clip.at(0))
    b = clip.action.shape[0]
    pairs = model.energy(each(lambda v: v.repeat_interleave(b, 0), goals), candidates_first(goals, b)).reshape(b, b)
    assert bool((pairs >= 0).all()), "energy is negative somewhere"
    own = pairs.diagonal()
    assert bool((own <= 1e-6 * (1 + pairs.max())).all()), f"energy of a goal with itself is {own.max():.2g}, not zero"
    assert bool((pairs.argmin(dim=1) == torch.arange(b)).all()), "a goal is not its own best match"


def candidates_first(state: State, n: int) -> State:
    """The whole batch n times: `b ...` → `(n b) ...`."""
    return each(lambda value: value.repeat(n, *[1] * (value.ndim - 1)), state)


def _same_seed(build: Build, spec: Spec, clip: Clip) -> None:
    """Building and the loss may draw from torch's global state; `predict` only from the generator that it is given."""
    found = []
    for elsewhere in (8, 9):
        torch.manual_seed(7)
        model = build(spec).eval()
        state = model.encode(clip.at(0))
        torch.manual_seed(elsewhere)
        likely = model.predict(state, clip.action[:, 0])
        drawn = model.predict(state, clip.action[:, 0], Generator().manual_seed(3))
        torch.manual_seed(10)
        found.append((likely, drawn, model.loss(clip)[0]))
    (likely, drawn, loss), (likely_again, drawn_again, loss_again) = found
    assert _same(likely, likely_again), "predict without a generator varies: it must give what is most likely"
    assert _same(drawn, drawn_again), "predict ignores its generator: the same seed gives another state"
    assert torch.equal(loss, loss_again), "loss differs under the same seed"


def _same(a: State, b: State) -> bool:
    return all(torch.equal(value, b[name]) for name, value in a.items())


def _decode_fits(model: WorldModel, clip: Clip) -> None:
    b = clip.action.shape[0]
    decoded = model.decode(model.encode(clip.at(0)))
    assert bool(decoded) == model.card.decodes, f"the card says decodes={model.card.decodes}, decode says otherwise"
    for name, value in decoded.items():
        shape = model.spec.obs.get(name, ())
        assert value.shape == (b, *shape), f"decode: {name} has shape {tuple(value.shape)}, expected {(b, *shape)}"
        if len(shape) == 3:
            assert value.is_floating_point(), f"decode: {name} must be float in [0, 1]"


def _restarts(model: WorldModel, clip: Clip) -> None:
    first = torch.zeros(clip.action.shape[0], clip.length + 1, dtype=torch.bool)
    first[1, 2] = True
    joined = replace(clip, first=first)
    found, slow = model.watch(joined), WorldModel.watch(model, joined)
    _close(model, found, slow, "where an episode begins within a clip, watch differs from encode without a past")
    loss, _, beliefs = model.study(joined)
    assert bool(loss.isfinite()), f"the loss of a clip of two episodes is {loss}"
    assert model.features(flatten(beliefs, 2)).shape == model.features(flatten(found, 2)).shape, "study: other beliefs"
    state = at(model.watch(clip), 2)
    if not model.packed(state):  # it keeps no belief in a replay
        return
    again = model.unpacked(model.packed(state))
    after = [model.features(model.predict(s, clip.action[:, 2])) for s in (state, again)]
    gap = (after[0] - after[1]).abs().max() / (1 + after[0].abs().max())
    assert gap <= PACKED, f"what follows from a packed belief differs by {gap:.2g}"
    rest = replace(clip.cut(2, clip.length - 2), past=model.packed(state))
    loss, _, beliefs = model.study(rest)
    assert bool(loss.isfinite()), f"the loss of a clip with a past is {loss}"
    for name, value in beliefs.items():
        assert value.shape[:2] == (len(first), rest.length + 1), f"study: {name} of a clip with a past is not b t+1 ..."
        assert name not in again or torch.equal(value[:, 0], again[name]), f"study: {name} does not begin with the past"


def _save_and_load(model: WorldModel, clip: Clip) -> None:
    with torch.no_grad():
        again = check_saved(model)
        assert _same(model.watch(clip), again.watch(clip)), "a loaded model thinks otherwise"


def check_saved(model: L) -> L:
    """What comes back from the disk, in eval mode: of the same configuration, for the same world, with all tensors."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.save(folder, model, None, 0, None)
        again = checkpoint.load(Path(folder), models={type(model).__name__: type(model)}, kind=type(model))
    assert again.config == model.config and again.spec == model.spec, "config or spec changed on disk"
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), f"{name} changed on disk"
    return again


def check_gradients(model: Learns, clip: Clip) -> None:
    """A gradient reaches every parameter, in a few steps: zero-initialised gates let nothing through at the first.

    The parts of the loss must drag none along, or whoever logs them keeps every step's graph.
    """
    model.train()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    seen: set[str] = set()
    for _ in range(4):
        optimiser.zero_grad()
        loss, parts = model.loss(clip)
        assert not any(torch.as_tensor(part).requires_grad for part in parts.values()), (
            "parts of the loss must be detached"
        )
        loss.backward()
        seen |= {name for name, p in model.named_parameters() if p.grad is not None and bool(p.grad.any())}
        optimiser.step()
        model.after_step()
    lost = [name for name, p in model.named_parameters() if p.requires_grad and name not in seen]
    assert not lost, f"no gradient reaches {len(lost)} parameters, the first is {lost[0]}"


def check_overfits(model: Learns, clip: Clip, steps: int) -> None:
    """On one clip the loss falls by a fifth of its size at least; families differ too much to ask for more."""
    model.train()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    first = last = float(model.loss(clip)[0].detach())
    for _ in range(steps):
        optimiser.zero_grad()
        loss, _ = model.loss(clip)
        loss.backward()
        optimiser.step()
        model.after_step()
        last = float(loss.detach())
        if last < first - 0.2 * abs(first):
            return
    raise AssertionError(f"one clip is not learnt: the loss went from {first:.4g} to {last:.4g} in {steps} steps")


def _close(model: WorldModel, a: State, b: State, sentence: str, axes: int = 2) -> None:
    """Two ways to the same beliefs: compared as `features`, and as `energy` to the first of them."""
    a, b = flatten(a, axes), flatten(b, axes)
    one, two = model.features(a), model.features(b)
    assert one.shape == two.shape, f"{sentence}: shapes {tuple(one.shape)} and {tuple(two.shape)}"
    gap = (one - two).abs().max() / (1 + two.abs().max())
    assert gap <= TOLERANCE, f"{sentence}: features differ by {gap:.2g}"
    goal = candidates(each(lambda value: value[:1], b), len(one))
    gap = (model.energy(a, goal) - model.energy(b, goal)).abs().max()
    assert gap <= TOLERANCE * (1 + model.energy(b, goal).abs().max()), f"{sentence}: energies differ by {gap:.2g}"
