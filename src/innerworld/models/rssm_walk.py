"""Believing along a clip as one node of the graph: DreamerV3's step (block GRU, one-hot latents), gradient by hand.

A step of 16 rows is some forty small operations, and each one that autograd remembers costs more in bookkeeping than in
arithmetic. Here the steps are taken without it; backwards, only what runs from step to step is followed step by step,
and the gradient of every matrix is one product over all steps. `RSSM` walks the plain way wherever this does not apply.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from innerworld.models.rssm_parts import Posterior
from innerworld.nn.block_gru import BlockGRU, tanh
from innerworld.nn.distributions import OneHot
from innerworld.nn.linear import outer
from innerworld.nn.mlp import EPS, MLP


class Draws(NamedTuple):
    """How latents are drawn."""

    groups: int
    unimix: float

    def of(self, raw: Tensor) -> OneHot:
        """From raw latents `b (g k)`."""
        return OneHot.mixed(raw.unflatten(-1, (self.groups, -1)), self.unimix)


class Weights(NamedTuple):
    """Of one step; the rest of it (`push`, `look` and their biases) is had for all times at once."""

    memory: Tensor  # h d, the embedding of the memory
    memory_bias: Tensor
    latent: Tensor  # h (g k), of the latent
    latent_bias: Tensor
    embed_scale: Tensor  # 2 h, of their norms
    from_memory: Tensor  # blocks: d/8 in, d/8 out
    from_inputs: Tensor  # d 2h
    hidden_scale: Tensor  # d
    gates: Tensor  # blocks: d/8 in, 3 d/8 out
    gates_bias: Tensor
    posterior: Tensor  # h d
    posterior_scale: Tensor  # h
    out: Tensor  # (g k) h
    out_bias: Tensor


def walk(
    cell: BlockGRU,
    posterior: Posterior,
    draws: Draws,
    start: tuple[Tensor, Tensor],
    push: Tensor,
    look: Tensor,
    stays: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """From memory `b d` and latent `b (g k)` along `push` and `look` `b t ...`: deter, stoch, raw posterior `b t ...`.

    `stays` `b t` is 0 where what was before is forgotten.
    """
    (memory, memory_scale), (latent, latent_scale) = _layer(cell.memory), _layer(cell.latent)
    weights = Weights(
        memory.weight,
        memory.bias,
        latent.weight,
        latent.bias,
        torch.stack([memory_scale, latent_scale]),
        cell.from_memory.weight,
        cell.from_inputs.weight,
        cast(nn.RMSNorm, cell.norm).weight,
        cell.gates.weight,
        cell.gates.bias,
        posterior.memory.weight,
        cast(nn.RMSNorm, posterior.norm).weight,
        posterior.out.weight,
        posterior.out.bias,
    )
    push = (push + cell.from_memory.bias).transpose(0, 1)  # t b d
    look = (look + posterior.memory.bias).transpose(0, 1)  # t b h
    keep = None if stays is None else stays.T.unsqueeze(-1)  # t b 1
    deter, stoch, raw = _Walk.apply(*start, push, look, keep, draws, *weights)
    return deter.transpose(0, 1), stoch.transpose(0, 1), raw.transpose(0, 1)


def _layer(mlp: MLP) -> tuple[nn.Linear, Tensor]:
    """Of an embedding: its matrix, and the scale of its norm."""
    return cast(nn.Linear, mlp.stack[0]), cast(nn.RMSNorm, mlp.stack[1]).weight


class Kept(NamedTuple):
    """What a step leaves for its gradient, each `b ...`, or `g b ...` with the blocks in front."""

    deter: Tensor  # before
    stoch: Tensor
    embed: Tensor  # b 2 h, normed; then with its scale
    embed_size: Tensor
    embed_scaled: Tensor
    inputs: Tensor  # b 2h
    hidden: Tensor  # b d, normed; then with its scale
    hidden_size: Tensor
    hidden_scaled: Tensor
    x: Tensor
    reset: Tensor  # g b d/g
    candidate: Tensor
    new: Tensor
    update: Tensor
    after: Tensor  # b d
    told: Tensor  # b h, normed; then with its scale
    told_size: Tensor
    told_scaled: Tensor
    told_x: Tensor
    logits: Tensor  # b g k, of what is drawn from


class _Walk(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        deter: Tensor,
        stoch: Tensor,
        push: Tensor,
        look: Tensor,
        keep: Tensor | None,
        draws: Draws,
        *weights: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        w = Weights(*weights)
        steps: list[Kept] = []
        drawn: list[Tensor] = []
        raws: list[Tensor] = []
        for t in range(len(push)):
            if keep is not None:
                deter, stoch = deter * keep[t], stoch * keep[t]
            kept, raw, choice = _step(w, draws, deter, stoch, push[t], look[t])
            deter, stoch = kept.after, choice.flatten(1)
            steps.append(kept)
            drawn.append(choice)
            raws.append(raw)
        ctx.save_for_backward(*weights, *(x for kept in steps for x in kept))
        ctx.keep, ctx.draws = keep, draws
        return torch.stack([kept.after for kept in steps]), torch.stack(drawn), torch.stack(raws)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_deter: Tensor, to_stoch: Tensor, to_raw: Tensor) -> tuple[Tensor | None, ...]:
        count, saved = len(Weights._fields), ctx.saved_tensors
        w, size = Weights(*saved[:count]), len(Kept._fields)
        steps = [Kept(*saved[at : at + size]) for at in range(count, len(saved), size)]
        deter, stoch = torch.zeros_like(to_deter[0]), torch.zeros_like(steps[0].stoch)
        found: list[Slopes] = []
        for t in reversed(range(len(steps))):
            deter, stoch = to_deter[t] + deter, to_stoch[t].flatten(1) + stoch
            within, deter, stoch = _back(w, ctx.draws, steps[t], deter, stoch, to_raw[t])
            if ctx.keep is not None:
                deter, stoch = deter * ctx.keep[t], stoch * ctx.keep[t]
            found.append(within)
        slopes = Slopes(*(torch.stack(each) for each in zip(*reversed(found), strict=True)))
        return deter, stoch, slopes.hidden, slopes.told, None, None, *_to_weights(steps, slopes)


def _step(
    w: Weights, draws: Draws, deter: Tensor, stoch: Tensor, push: Tensor, look: Tensor
) -> tuple[Kept, Tensor, Tensor]:
    """What it leaves, the raw posterior `b (g k)` and the draw `b g k`, as of `BlockGRU`, `Posterior` and `OneHot`."""
    blocks = len(w.gates)
    embed = torch.stack(
        [torch.addmm(w.memory_bias, deter, w.memory.T), torch.addmm(w.latent_bias, stoch, w.latent.T)], dim=1
    )
    embed, embed_size, embed_scaled = _norm(embed, w.embed_scale)
    inputs = F.silu(embed_scaled).flatten(1)
    hidden = torch.addmm(push, inputs, w.from_inputs.T)
    _apart(hidden, blocks).baddbmm_(_apart(deter, blocks), w.from_memory)
    hidden, hidden_size, hidden_scaled = _norm(hidden, w.hidden_scale)
    x = F.silu(hidden_scaled)
    gates = torch.baddbmm(w.gates_bias.unflatten(0, (blocks, 1, -1)), _apart(x, blocks), w.gates)
    reset, candidate, update = gates.chunk(3, dim=-1)
    reset, update = torch.sigmoid(reset), torch.sigmoid(update - 1)
    new = tanh(reset * candidate)
    after = torch.lerp(_apart(deter, blocks), new, update).transpose(0, 1).flatten(1)
    told, told_size, told_scaled = _norm(torch.addmm(look, after, w.posterior.T), w.posterior_scale)
    told_x = F.silu(told_scaled)
    raw = torch.addmm(w.out_bias, told_x, w.out.T)
    latent = draws.of(raw)
    kept = Kept(
        deter,
        stoch,
        embed,
        embed_size,
        embed_scaled,
        inputs,
        hidden,
        hidden_size,
        hidden_scaled,
        x,
        reset,
        candidate,
        new,
        update,
        after,
        told,
        told_size,
        told_scaled,
        told_x,
        latent.logits,
    )
    return kept, raw, latent.sample()


class Slopes(NamedTuple):
    """Gradients within a step: of sums before a norm, and, `_scaled`, after it."""

    embed: Tensor  # b 2 h
    embed_scaled: Tensor
    hidden: Tensor  # b d
    hidden_scaled: Tensor
    gates: Tensor  # g b 3 d/g
    told: Tensor  # b h
    told_scaled: Tensor
    raw: Tensor  # b (g k)


def _back(
    w: Weights, draws: Draws, kept: Kept, deter: Tensor, stoch: Tensor, raw: Tensor
) -> tuple[Slopes, Tensor, Tensor]:
    """From the gradients of what a step gives to those within it, and of memory and latent before it."""
    blocks = len(w.gates)
    # Straight-through: as if not the draw but its probabilities had been given on.
    share = 1 - draws.unimix
    probs = (kept.logits.exp() - draws.unimix / kept.logits.shape[-1]) / share  # before the uniform was mixed in
    stoch = stoch.view_as(probs) * share
    raw = raw + (probs * (stoch - (stoch * probs).sum(dim=-1, keepdim=True))).flatten(1)
    told_scaled = torch.ops.aten.silu_backward(raw @ w.out, kept.told_scaled)
    told = _norm_back(told_scaled, kept.told, kept.told_size, w.posterior_scale)
    deter = _apart(torch.addmm(deter, told, w.posterior), blocks)  # g b d/g

    new = deter * kept.update
    update = torch.ops.aten.sigmoid_backward(deter * (kept.new - _apart(kept.deter, blocks)), kept.update)
    before = deter - new
    product = torch.ops.aten.tanh_backward(new, kept.new)
    reset = torch.ops.aten.sigmoid_backward(product * kept.candidate, kept.reset)
    gates = torch.cat([reset, product * kept.reset, update], dim=-1)

    x = torch.bmm(gates, w.gates.transpose(1, 2)).transpose(0, 1).flatten(1)
    hidden_scaled = torch.ops.aten.silu_backward(x, kept.hidden_scaled)
    hidden = _norm_back(hidden_scaled, kept.hidden, kept.hidden_size, w.hidden_scale)
    before = torch.baddbmm(before, _apart(hidden, blocks), w.from_memory.transpose(1, 2))
    inputs = (hidden @ w.from_inputs).view_as(kept.embed)
    embed_scaled = torch.ops.aten.silu_backward(inputs, kept.embed_scaled)
    embed = _norm_back(embed_scaled, kept.embed, kept.embed_size, w.embed_scale)
    before = torch.addmm(before.transpose(0, 1).flatten(1), embed[:, 0], w.memory)
    slopes = Slopes(embed, embed_scaled, hidden, hidden_scaled, gates, told, told_scaled, raw)
    return slopes, before, embed[:, 1] @ w.latent


def _to_weights(steps: list[Kept], slopes: Slopes) -> Weights:
    """The gradients of all weights, from all steps at once: each of `slopes` is `t ...`."""
    blocks = slopes.gates.shape[1]
    deter, stoch = torch.cat([kept.deter for kept in steps]), torch.cat([kept.stoch for kept in steps])
    memory, latent = slopes.embed.flatten(0, 1).unbind(1)  # n h each
    hidden, told, raw = slopes.hidden.flatten(0, 1), slopes.told.flatten(0, 1), slopes.raw.flatten(0, 1)
    gates = slopes.gates.transpose(0, 1).flatten(1, 2)  # g n 3 d/g
    x = torch.cat([kept.x for kept in steps])
    return Weights(
        outer(memory, deter),
        memory.sum(dim=0),
        outer(latent, stoch),
        latent.sum(dim=0),
        (slopes.embed_scaled.flatten(0, 1) * torch.cat([kept.embed for kept in steps])).sum(dim=0),
        torch.bmm(_apart(deter, blocks).transpose(1, 2), _apart(hidden, blocks)),
        outer(hidden, torch.cat([kept.inputs for kept in steps])),
        (slopes.hidden_scaled.flatten(0, 1) * torch.cat([kept.hidden for kept in steps])).sum(dim=0),
        torch.bmm(_apart(x, blocks).transpose(1, 2), gates),
        gates.sum(dim=1).flatten(),
        outer(told, torch.cat([kept.after for kept in steps])),
        (slopes.told_scaled.flatten(0, 1) * torch.cat([kept.told for kept in steps])).sum(dim=0),
        outer(raw, torch.cat([kept.told_x for kept in steps])),
        raw.sum(dim=0),
    )


def _apart(x: Tensor, blocks: int) -> Tensor:
    """`n (g i)` → `g n i`, a view."""
    return x.unflatten(-1, (blocks, -1)).transpose(0, 1)


def _norm(x: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Normed, what it was multiplied by for that, and with its scale."""
    size = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(EPS).rsqrt_()
    unit = x * size
    return unit, size, unit * scale


def _norm_back(gradient: Tensor, unit: Tensor, size: Tensor, scale: Tensor) -> Tensor:
    gradient = gradient * scale
    along = torch.linalg.vecdot(gradient, unit).div_(unit.shape[-1]).unsqueeze(-1)
    return torch.addcmul(gradient, unit, along, value=-1).mul_(size)
