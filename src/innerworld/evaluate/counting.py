"""What runs inside a `with`, counted: floating-point operations, and how much memory was alive at once."""

from __future__ import annotations

from typing import Any
from weakref import WeakSet, finalize

import torch
from torch import Tensor, UntypedStorage
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count


def flop_counter() -> FlopCounterMode:
    """torch's, of matrix products, convolutions and attention, also the attention of CPUs, which it does not know
    (2.13). A multiplication and an addition are two operations."""
    aten = torch.ops.aten
    attention = {
        aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *more, **named: sdpa_flop_count(q, k, v),
        aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda grad, q, k, v, *more, **named: (
            sdpa_backward_flop_count(grad, q, k, v)
        ),
    }
    return FlopCounterMode(display=False, custom_mapping=attention)


class Alive(TorchDispatchMode):
    """Follows the memory that is made inside the `with`, and how much of it was alive at once: `peak`, in bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._now = 0
        self._seen: WeakSet[UntypedStorage] = WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {tensor.untyped_storage() for tensor in _tensors([args, kwargs])}
        made = func(*args, **(kwargs or {}))
        for tensor in _tensors(made):
            storage = tensor.untyped_storage()
            if storage not in self._seen and storage not in given:  # not a view of what there was
                self._seen.add(storage)
                self._now += storage.nbytes()
                finalize(storage, self._gone, storage.nbytes())
        self.peak = max(self.peak, self._now)
        return made

    def _gone(self, count: int) -> None:
        self._now -= count


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]
