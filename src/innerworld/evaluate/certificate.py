"""Does a small error in pictures bound the error of latents? Both sides of L_latent ≤ Lip(h) · L_gen + ε, measured.

With h the encoder, f the dynamics, g the decoder, s' = f(h(o), a), ô' = g(s') and o' what really came:

    L_latent = E ‖s' - h(o')‖      L_gen = E ‖ô' - o'‖      ε = E ‖h(ô') - s'‖

arXiv 2507.05169 states L_latent ≤ L_gen + ε. That fails where h stretches: h(o) = c·o and g(s) = s / c keep every
hypothesis, and L_latent = c · L_gen. The triangle inequality gives the form that holds, with a Lipschitz constant of h
on the segments from ô' to o'.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from innerworld.errors import UserError
from innerworld.evaluate.untouched import untouched
from innerworld.types import Clip, Obs, State, each
from innerworld.world import WorldModel, flatten

MOMENTS = 64  # of the clip, evenly chosen: half to find the Lipschitz constant on, half to try the bound on
POINTS = 3  # of a segment at which the Jacobian is measured, its ends among them
ROUNDS = 8  # of the power iteration
SLACK = 1e-4  # of rounding, relative
STEP = 1e-3  # of a difference, by the length of what is moved


def certificate(
    model: WorldModel, clip: Clip, moments: int = MOMENTS, points: int = POINTS, rounds: int = ROUNDS, seed: int = 0
) -> dict[str, float]:
    """Both sides of the bound on a held-out clip, of any family that decodes what it imagines.

    h is `features` after `encode` with the past held still, so of a family with a memory it is what looking adds.
    Distances are Euclidean, of features and of all decoded sensors together (pictures in [0, 1]).

    - `latent`, `generative`, `epsilon`: L_latent, L_gen and ε, over the second half of the moments: of other
      rows, or of a single row the later ones
    - `lipschitz_secant`: the steepest ‖h(ô') - h(o')‖ / ‖ô' - o'‖ of the first half
    - `lipschitz_jacobian`: the largest norm of h's Jacobian at `points` of each of those segments, by `rounds` of power
      iteration (so from below); 0 where h jumps, or lets no gradient through, as frozen codecs do
    - `lipschitz`: the larger of the two
    - `bound`: `lipschitz` · `generative` + `epsilon`; `holds`: 1 where `latent` is within it, else 0
    - `holds_share`: the same of single moments, the share
    - `published`: `generative` + `epsilon`; `published_holds`: 1 where `latent` is within that, else 0
    - `exact`: the mean of secant · distance + ε, each of its own moment; never below `latent`

    What it proves: `exact` holds of any h, f and g, it is the triangle inequality, and only tells that all was computed
    rightly. `bound` may fail, for the constant comes from other moments than those it is tried on, and from some points
    of a segment: it is evidence on this clip, not a proof for the next. A Lipschitz constant over all pictures is not
    estimated; of an h that jumps (one-hot latents) there is none, and only secants count.

    Leaves no trace in the model. Raises `UserError` for a family that shows nothing and for fewer than two moments.
    """
    with untouched(model) as device:
        clip = clip.to(device)
        before, action, seen = _moments(model, clip, moments)
        imagined = model.predict(before, action)
        shown = {name: value for name, value in model.decode(imagined).items() if name in model.spec.obs}
        if not shown:
            raise UserError(f"{model.card.name} draws nothing of what it imagines: there is no decoder to certify")
        true = {name: _floats(seen[name]) for name in model.spec.obs}
        drawn = true | {name: value.float() for name, value in shown.items()}

        def look(obs: Obs, rows: slice) -> Tensor:
            past = each(lambda value: value[rows], before)
            return model.features(model.encode(obs, past, action[rows])).float()

        every = slice(None)
        real, again, guess = look(true, every), look(drawn, every), model.features(imagined).float()
        apart = _distance(drawn, true)
        latent, epsilon = (guess - real).norm(dim=-1), (again - guess).norm(dim=-1)
        moved = (again - real).norm(dim=-1)
        half = len(apart) // 2
        secant = float((moved / apart.clamp_min(1e-12))[:half].max())
        first = slice(0, half)
        ends = [{name: value[first] for name, value in of.items()} for of in (drawn, true)]
        with torch.enable_grad():
            steepest = _steepest(lambda obs: look(obs, first), ends[0], ends[1], points, rounds, seed)
    lipschitz = max(secant, steepest)
    tried = slice(half, None)
    found = {name: float(of[tried].mean()) for name, of in (("latent", latent), ("generative", apart))}
    found["epsilon"] = float(epsilon[tried].mean())
    found |= {"lipschitz_secant": secant, "lipschitz_jacobian": steepest, "lipschitz": lipschitz}
    found["bound"] = lipschitz * found["generative"] + found["epsilon"]
    found["holds"] = float(_within(found["latent"], found["bound"]))
    each_holds = latent[tried] <= (lipschitz * apart[tried] + epsilon[tried]) * (1 + SLACK)
    found["holds_share"] = float(each_holds.float().mean())
    found["published"] = found["generative"] + found["epsilon"]
    found["published_holds"] = float(_within(found["latent"], found["published"]))
    found["exact"] = float((moved + epsilon)[tried].mean())
    return found


def _moments(model: WorldModel, clip: Clip, most: int) -> tuple[State, Tensor, Obs]:
    """Beliefs, the actions done in them, and what was seen then, each `m ...`, one row of the clip after another."""
    beliefs = each(lambda value: value[:, :-1], model.watch(clip))
    after = {name: value[:, 1:] for name, value in clip.obs.items()}
    count = clip.action.shape[0] * clip.length
    if count < 2 or most < 2:
        raise UserError("a certificate needs two moments at least: one to find its constant on, one to try it on")
    chosen = torch.linspace(0, count - 1, min(most, count), device=clip.action.device).round().long()
    return (
        each(lambda value: value[chosen], flatten(beliefs, 2)),
        clip.action.flatten(0, 1)[chosen],
        {name: value.flatten(0, 1)[chosen] for name, value in after.items()},
    )


def _floats(seen: Tensor) -> Tensor:
    return seen.float() / 255 if seen.dtype == torch.uint8 else seen.float()


def _within(left: float, right: float) -> bool:
    return left <= right * (1 + SLACK)


def _distance(one: Obs, other: Obs) -> Tensor:
    """Of each row, over all sensors: `m`."""
    return _lengths([one[name] - other[name] for name in one])


def _steepest(look: Callable[[Obs], Tensor], start: Obs, stop: Obs, points: int, rounds: int, seed: int) -> float:
    """The largest norm of the Jacobian of `look` at points of the segments from `start` to `stop`, each `m ...`.

    Where a sensor does not differ between the two ends it is held still, as on the segment.
    """
    names = [name for name in start if not torch.equal(start[name], stop[name])]
    norms = [0.0]
    for share in torch.linspace(0, 1, points).tolist() if names else []:
        at = {name: torch.lerp(start[name], stop[name], share) for name in start}
        norms.append(float(_jacobian_norm(look, at, names, rounds, seed).max()))
    return max(norms)


def _jacobian_norm(look: Callable[[Obs], Tensor], at: Obs, names: list[str], rounds: int, seed: int) -> Tensor:
    """Of each row the largest singular value, by power iteration with v ← Jᵀ J v: `m`, from below.

    J v is a difference, for not every layer can be differentiated twice; Jᵀ u a gradient.
    """
    given = [at[name].detach().clone().requires_grad_() for name in names]
    out = look(at | dict(zip(names, given, strict=True)))
    norm = out.new_zeros(len(out))
    if not out.requires_grad:
        return norm
    step = STEP * (1 + _lengths(given).detach())  # m
    rng = Generator().manual_seed(seed)
    v = _unit([torch.randn(each.shape, generator=rng).to(each) for each in given])
    for _ in range(rounds):
        with torch.no_grad():
            beside = []
            for sign in (1, -1):
                moved = [x + _rows(sign * step, x) * part for x, part in zip(given, v, strict=True)]
                beside.append(look(at | dict(zip(names, moved, strict=True))))
            forth = (beside[0] - beside[1]) / _rows(2 * step, out)
        norm = forth.norm(dim=-1)
        v = _unit(list(torch.autograd.grad(out, given, forth, retain_graph=True, materialize_grads=True)))
    return norm


def _unit(v: list[Tensor]) -> list[Tensor]:
    """Of each row, all sensors together, brought to length 1."""
    length = _lengths(v).clamp_min(1e-30)
    return [part / _rows(length, part) for part in v]


def _lengths(v: list[Tensor]) -> Tensor:
    """Of each row, all sensors together: `m`."""
    return torch.stack([part.flatten(1).square().sum(dim=1) for part in v]).sum(dim=0).sqrt()


def _rows(value: Tensor, like: Tensor) -> Tensor:
    """One number for each row, with as many axes as `like`."""
    return value.view(-1, *[1] * (like.ndim - 1))
