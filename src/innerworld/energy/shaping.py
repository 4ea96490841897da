"""How an energy gets its shape: pushed up by contrast, kept apart by a regulariser, or bounded by an architecture.

An energy that is low on the data alone says nothing: the same is true of one that is zero everywhere (collapse). The
three ways are those of LeCun 2022 (A Path Towards Autonomous Machine Intelligence). The regularised one is in
`losses.py` (`vicreg`, `sigreg`), for joint-embedding families train with it; here is the energy that it shapes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from innerworld.energy.scalar import Energy
from innerworld.errors import UserError

# ---------------------------------------------------------------------- contrastive: losses of energies


def hinge(data: Tensor, negatives: Tensor, margin: float = 1.0) -> Tensor:
    """Let each of `data` `n` lie lower than its negative `n` by a margin → scalar (LeCun et al. 2006, table 1)."""
    _pairs(data, negatives)
    return F.relu(margin + data - negatives).mean()


def square_square(data: Tensor, negatives: Tensor, margin: float = 1.0) -> Tensor:
    """Data down to zero, negatives up to a margin: `n` and `m` → scalar (LeCun et al. 2006, table 1)."""
    return data.square().mean() + F.relu(margin - negatives).square().mean()


def info_nce(data: Tensor, negatives: Tensor, temperature: float = 1.0) -> Tensor:
    """How unlikely is each of `data` `n` among its negatives `n m`, with exp(-E / T) as the weights? → scalar.

    InfoNCE (arXiv 1807.03748, eq. 4): the negative log-likelihood in which a few negatives stand for all there is.
    """
    if negatives.shape[:-1] != data.shape:
        raise UserError(f"energies of data {tuple(data.shape)} go with negatives (n, m), got {tuple(negatives.shape)}")
    logits = -torch.cat([data[..., None], negatives], dim=-1) / temperature
    return -logits.log_softmax(dim=-1)[..., 0].mean()


def divergence(data: Tensor, negatives: Tensor, weight: float = 0.0) -> Tensor:
    """Push down on data `n` and up on the model's own draws `m`, as from `langevin` → scalar.

    Its gradient is that of the negative log-likelihood (Hinton 2002). `weight` times the mean square of all energies
    keeps them from drifting (Du and Mordatch, arXiv 1903.08689).
    """
    size = data.square().mean() + negatives.square().mean()
    return data.mean() - negatives.mean() + weight * size


# ---------------------------------------------------------------------- regularised: energies that may collapse


def joint(first: Callable[[Tensor], Tensor], second: Callable[[Tensor], Tensor], split: int) -> Energy:
    """How far apart are the embeddings of both halves of a point? Points `n d`, parted after `split` numbers → `n`.

    The joint-embedding energy |f(x) - g(y)|². Trained by itself both embeddings become constant and the energy zero
    everywhere; `losses.vicreg` or `losses.sigreg` on the embeddings keep them from that.
    """
    return lambda points: (first(points[:, :split]) - second(points[:, split:])).square().sum(dim=-1)


def sparse(dictionary: Tensor, weight: float, steps: int = 50) -> Energy:
    """How well do few atoms tell a point? min over z of ½ |y - z D|² + `weight` |z|₁: `n d` → `n`, atoms `k d`.

    A latent of limited capacity: the penalty bounds how much space can have low energy. Inference is FISTA's (Beck and
    Teboulle 2009), without gradients; the energy has the gradients of y and of D at that z (Danskin).
    """
    if dictionary.ndim != 2 or not weight > 0:
        raise UserError(f"sparse takes atoms k d and weight > 0, got {tuple(dictionary.shape)}, {weight:g}")

    def energy(points: Tensor) -> Tensor:
        z = sparse_code(points, dictionary, weight, steps)
        return 0.5 * (points - z @ dictionary).square().sum(dim=-1) + weight * z.abs().sum(dim=-1)

    return energy


@torch.no_grad()
def sparse_code(points: Tensor, dictionary: Tensor, weight: float, steps: int = 50) -> Tensor:
    """The latent z `n k` of `sparse`."""
    step = 1 / torch.linalg.matrix_norm(dictionary, ord=2).square()
    z = ahead = points.new_zeros(len(points), len(dictionary))
    momentum = 1.0
    for _ in range(steps):
        before, last = z, momentum
        z = F.softshrink(ahead - step * (ahead @ dictionary - points) @ dictionary.T, float(step) * weight)
        momentum = (1 + (1 + 4 * last**2) ** 0.5) / 2
        ahead = z + (last - 1) / momentum * (z - before)
    return z


# ---------------------------------------------------------------------- architectural: energies that cannot collapse


def reconstruction(through: Callable[[Tensor], Tensor]) -> Energy:
    """How much of a point is lost on the way through? |y - f(y)|²: `n d` → `n`.

    What passes the bottleneck of f (a few directions of a PCA, a narrow autoencoder) bounds the space of low energy.
    """
    return lambda points: (points - through(points)).square().flatten(1).sum(dim=-1)


def nearest_code(codes: Tensor) -> Energy:
    """How far is the nearest of the codes `k d`? `n d` → `n`: k-means, or VQ. Low energy is k points and no more."""
    if codes.ndim != 2:
        raise UserError(f"codes are k d, got shape {tuple(codes.shape)}")
    return lambda points: (points[:, None] - codes).square().sum(dim=-1).amin(dim=-1)


# ---------------------------------------------------------------------- judging


def separation(on: Tensor, off: Tensor) -> float:
    """How often does a point off the manifold (energies `m`) lie higher than one on it (`n`)? ½ for ties: the AUC."""
    if not (on.numel() and off.numel() and bool(on.isfinite().all() and off.isfinite().all())):
        raise UserError("a separation needs finite energies of one point or more, on and off the manifold")
    ordered = on.flatten().sort().values
    below = torch.searchsorted(ordered, off.flatten(), right=False)
    up_to = torch.searchsorted(ordered, off.flatten(), right=True)
    return float((below + up_to).double().mean() / (2 * on.numel()))


def _pairs(data: Tensor, negatives: Tensor) -> None:
    if data.shape != negatives.shape:
        raise UserError(
            f"energies of data {tuple(data.shape)} and of negatives {tuple(negatives.shape)} are no pairs: "
            "give one negative for each"
        )
