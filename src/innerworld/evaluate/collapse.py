"""The collapse watch: are the features still alive? A JEPA that maps everything to one point has a perfect loss."""

from __future__ import annotations

import logging
import math

import torch
from torch import Tensor
from torch.nn import functional as F

from innerworld.errors import UserError, nearest
from innerworld.evaluate.probing import linear_probe
from innerworld.evaluate.untouched import untouched
from innerworld.learns import Learns
from innerworld.types import Clip

PAIRED = 1024  # rows that uniformity compares, each with each: they are evenly chosen where there are more
COLLAPSED = 1.5  # effective rank below which the alarm counts
COMMON = 1e-3  # how much is left of what all moments have in common, where that is most of them
logger = logging.getLogger(__name__)


def collapse(features: Tensor, state: Tensor | None = None, split: int | None = None) -> dict[str, float]:
    """Measure how much of their space the features (`n d`) use; with `state` (`n k`) also what they tell of it.

    - `effective_rank`: 1 is collapsed, min(n, d) is isotropic (RankMe, arXiv 2210.02885, eq. 1 and 2)
    - `dead_dimensions`: how many have a standard deviation below a thousandth of the largest one
    - `std_mean`, `std_min`: over the dimensions
    - `probe_r2`: of a linear probe fitted on the rows before `split` (default: half), measured on the others;
      left out when no dimension of `state` varies there

    Rows must come one episode after another, so that no episode lies on both sides of `split`.
    Raises `UserError` for features that are not `n d` with n > 1, or not finite.
    """
    if features.ndim != 2 or len(features) < 2:
        raise UserError(f"collapse: features have shape {tuple(features.shape)}, expected (n, d) with n > 1")
    if not torch.isfinite(features).all():
        raise UserError("collapse: the features are not finite")
    x = features.detach().cpu().double()
    std = x.std(0)
    dead = std <= 1e-3 * std.max()  # also true where nothing moves at all
    metrics = {
        "effective_rank": effective_rank(x),
        "dead_dimensions": float(dead.sum()),
        "std_mean": std.mean().item(),
        "std_min": std.min().item(),
    }
    return metrics if state is None else metrics | _probe(x, state, split)


def effective_rank(features: Tensor) -> float:
    """Exponential of the entropy of the normalised singular values of `n d` (RankMe, arXiv 2210.02885, eq. 1 and 2).

    Not centred, as in the paper: features that are one point plus a little noise count as collapsed.
    """
    values = torch.linalg.svdvals(features.detach().cpu().double())
    p = values / values.sum().clamp_min(torch.finfo(values.dtype).tiny) + 1e-7  # the paper's ε
    return torch.exp(-(p * p.log()).sum()).item()


def alignment(one: Tensor, other: Tensor) -> float:
    """How far apart what belongs together is: mean squared distance of pairs `... d` (arXiv 2005.10242, eq. 1, α = 2).

    Both are scaled to length 1, so 0 is the same direction, 2 is unrelated, 4 is opposite. Raises `UserError` where
    their shapes differ.
    """
    if one.shape != other.shape or not one.numel():
        raise UserError(f"alignment: pairs of shapes {tuple(one.shape)} and {tuple(other.shape)}: give two alike")
    return (_on_sphere(one) - _on_sphere(other)).square().sum(-1).mean().item()


def uniformity(features: Tensor, t: float = 2.0) -> float:
    """How evenly directions fill the sphere: log of the mean of exp(-t distance²) over pairs (arXiv 2005.10242, eq. 2).

    Of features `n d`. 0 is one direction for all, below is better; -2t is out of reach, where all pairs are opposite.
    Of more than 1024 rows as many evenly spaced ones are compared. Raises `UserError` for fewer than two rows.
    """
    if features.ndim != 2 or len(features) < 2:
        raise UserError(f"uniformity: features have shape {tuple(features.shape)}, expected (n, d) with n > 1")
    few = features[:: -(-len(features) // PAIRED)]
    squared = torch.pdist(_on_sphere(few)).square()
    return (torch.logsumexp(-t * squared, dim=0) - math.log(len(squared))).item()


def _on_sphere(features: Tensor) -> Tensor:
    return F.normalize(features.detach().cpu().double(), dim=-1)


class CollapseWatch:
    """Call it now and then while training: how alive is what a model or an encoder makes of a held-out clip?

    Gives what `collapse` measures, `alignment` of each moment with the next, and `uniformity` of all of them. Of eyes,
    whose impressions of one scene are mostly alike, all but a thousandth of their mean is taken off first.

    `clip` is the held-out experience, one row per episode; `sensor` is what a probe reads off the features (None: no
    probe). Leaves no trace: gradients, training mode and random state are as before. Warns once through `logging`
    when two calls in a row find the features collapsed (an untrained model may look so at its first step), and from
    then on gives `alarm` = 1 as long as they are.
    Raises `UserError` for a sensor that the clip lacks or that is not a vector, or fewer than two rows to probe.
    """

    def __init__(self, model: Learns, clip: Clip, sensor: str | None = None) -> None:
        if sensor is not None:
            _check(clip, sensor)
        self.model, self.clip, self.sensor = model, clip, sensor
        self._alarms = 0  # calls in a row that found a collapse

    def __call__(self) -> dict[str, float]:
        moments = _features(self.model, self.clip)  # b t+1 d
        if self.model.alike:
            moments = _apart(moments)
        features = moments.flatten(0, 1)
        if self.sensor is None:
            metrics = collapse(features)
        else:
            rows, times = self.clip.obs[self.sensor].shape[:2]
            metrics = collapse(features, self.clip.obs[self.sensor].flatten(0, 1), split=rows // 2 * times)
        metrics |= {
            "alignment": alignment(moments[:, :-1], moments[:, 1:]),
            "uniformity": uniformity(features),
        }
        return metrics | self._alarm(metrics, features.shape[1])

    def _alarm(self, metrics: dict[str, float], d: int) -> dict[str, float]:
        collapsed = d > 1 and metrics["effective_rank"] < COLLAPSED
        self._alarms = self._alarms + 1 if collapsed else 0
        if self._alarms == 2:
            logger.warning(
                "the features have collapsed (effective rank %.2f of %d): the loss means nothing now; "
                "strengthen what keeps them apart",
                metrics["effective_rank"],
                d,
            )
        return {"alarm": 1.0} if self._alarms >= 2 else {}


def _check(clip: Clip, sensor: str) -> None:
    if sensor not in clip.obs:
        known = list(clip.obs)
        raise UserError(f"no sensor {sensor!r} to probe.{nearest(sensor, known)} There are: {', '.join(known)}")
    if clip.obs[sensor].ndim != 3:
        raise UserError(f"cannot probe sensor {sensor!r}: it is not a vector")
    if len(clip.action) < 2:
        raise UserError("the collapse watch needs at least two held-out clips to fit and to measure its probe")


def _features(model: Learns, clip: Clip) -> Tensor:
    """What the model makes of the clip: `b t+1 d`. Neither gradients nor mode nor random state change."""
    with untouched(model) as device:
        return model.impressions(clip.to(device)).float()


def _apart(moments: Tensor) -> Tensor:
    """`b t d` around their mean, of which a thousandth stays: what moves less than that is still one point."""
    mean = moments.mean(dim=(0, 1))
    return moments - (1 - COMMON) * mean


def _probe(x: Tensor, state: Tensor, split: int | None) -> dict[str, float]:
    at = len(x) // 2 if split is None else split
    r2 = linear_probe(x[:at], state[:at], x[at:], state[at:])["r2"]
    return {} if math.isnan(r2) else {"probe_r2": r2}
