"""What changes along a training run, as pure functions of the step: learning rates, weight decay, moving averages.

`step` counts from 0; each published schedule gives its number k-th for step = k, and stays at its last value after the
end.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn


def warmup_constant_cooldown(
    step: int, steps: int, peak: float, warmup: int, cooldown: int, start: float = 0.0, final: float = 0.0
) -> float:
    """V-JEPA 2's rate: a straight rise from `start`, a plateau, a straight fall to `final` in the last steps."""
    if step < warmup:
        return start + (peak - start) * step / warmup
    fall = (step - (steps - cooldown)) / max(1, cooldown)
    return peak + (final - peak) * min(1.0, max(0.0, fall))


def warmup_cosine(step: int, steps: int, peak: float, warmup: int, start: float = 0.0, final: float = 0.0) -> float:
    """I-JEPA's and V-JEPA's rate: a straight rise from `start`, then half a cosine down to `final`."""
    if step < warmup:
        return start + (peak - start) * step / warmup
    return cosine(step - warmup, steps - warmup, peak, final)


def cosine(step: int, steps: int, start: float, final: float) -> float:
    """Half a cosine from `start` to `final`: I-JEPA's weight decay, which rises from 0.04 to 0.4."""
    part = min(1.0, step / max(1, steps))
    return final + (start - final) * 0.5 * (1 + math.cos(math.pi * part))


def linear(step: int, steps: int, start: float, final: float) -> float:
    """A straight line: I-JEPA's momentum, from 0.996 to 1."""
    return start + (final - start) * min(1.0, step / max(1, steps))


def follow_(target: Iterable[Tensor], source: Iterable[Tensor], momentum: float) -> None:
    """Moving average in place: each target becomes momentum · target + (1 − momentum) · source."""
    get_ema_multi_avg_fn(momentum)(tuple(target), tuple(source), None)  # one kernel for all on an accelerator
