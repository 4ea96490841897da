"""`SameLuck`: whatever a model draws for many rows at once, every row gets the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Generator, Tensor
from torch.overrides import TorchFunctionMode

IN_PLACE = {torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.exponential_}
FRESH = {torch.randn, torch.rand}


class SameLuck(TorchFunctionMode):
    """Within it, what is drawn with `rng` for `rows` rows is drawn once and given to all (common random numbers).

    Candidates are then compared under the same luck, which takes much of the noise out of their differences. It reaches
    what `normal_`, `uniform_`, `exponential_`, `randn` and `rand` draw with this generator, of which the first axis is
    the rows, or rows and something in them; other draws are left as they are.
    """

    def __init__(self, rng: Generator, rows: int) -> None:
        super().__init__()
        self._rng, self._rows = rng, rows

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if kwargs.get("generator") is not self._rng:
            return func(*args, **kwargs)
        if func in IN_PLACE and self._shared(args[0].shape):
            target: Tensor = args[0]
            once = func(torch.empty_like(target[: len(target) // self._rows]), *args[1:], **kwargs)
            return target.copy_(self._to_all(once))
        if func in FRESH:
            shape = _shape(args)
            if self._shared(shape):
                return self._to_all(func((shape[0] // self._rows, *shape[1:]), **kwargs))
        return func(*args, **kwargs)

    def _shared(self, shape: Sequence[int]) -> bool:
        return len(shape) > 0 and shape[0] > 0 and shape[0] % self._rows == 0

    def _to_all(self, once: Tensor) -> Tensor:
        return once.repeat(self._rows, *[1] * (once.ndim - 1))


def _shape(args: tuple[Any, ...]) -> tuple[int, ...]:
    """As `randn(2, 3)` and `randn((2, 3))` say it."""
    return tuple(args[0]) if args and isinstance(args[0], Sequence) else tuple(args)
