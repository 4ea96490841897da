"""How a gradient becomes a step: clipped tensor by tensor, by AdamW or LaProp, each part of a model at its own rate."""

# pyright: reportPrivateImportUsage=false
# (torch's own optimisers are written with `_foreach_*`: one call for all parameters)

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from innerworld.errors import UserError, nearest
from innerworld.learns import Learns
from innerworld.training.config import TrainConfig
from innerworld.training.parallel import local, whole

SMALLEST = 1e-3  # norm that a parameter is taken to have at least, or one that begins at zero would stay there
EPS = {"adamw": 1e-8, "laprop": 1e-20}


def build_optimiser(model: Learns, config: TrainConfig) -> Optimizer:
    """The optimiser that `config` names. Each of its groups has a `rate`, by which the learning rate is multiplied.

    Biases, gains and other parameters with fewer than two axes do not decay. Raises `UserError` for a model without
    parameters to train, and for `rates` that name none of its parameters or are no factors.
    """
    groups = _groups(model, config.weight_decay)
    eps = EPS[config.optimiser] if config.eps is None else config.eps
    if config.optimiser == "laprop":
        return LaProp(groups, config.lr, config.betas, eps)
    return AdamW(groups, lr=config.lr, betas=config.betas, eps=eps)


def clip_each(parameters: Iterable[nn.Parameter], limit: float, sharded: bool = False) -> None:
    """Scale down, in place, each gradient whose norm exceeds `limit` times the norm of its parameter.

    Adaptive gradient clipping (arXiv 2102.06171) of whole tensors rather than rows, as in DreamerV3. `sharded`: the
    parameters are spread by FSDP; then all processes must call it.
    """
    held = [parameter for parameter in parameters if parameter.grad is not None]
    gradients = [parameter.grad for parameter in held if parameter.grad is not None]
    if not held:
        return
    with torch.no_grad():
        upper = limit * _norms(held, sharded).clamp(min=SMALLEST)
        factors = (upper / _norms(gradients, sharded)).clamp(max=1)  # a gradient of zero: infinity, so 1
        own = [local(gradient) for gradient in gradients] if sharded else gradients
        torch._foreach_mul_(own, factors.unbind())


class LaProp(Optimizer):
    """Momentum of gradients that were scaled before, not after, averaging (arXiv 2002.04839): DreamerV3's optimiser.

    Adam divides the average gradient by the root of the average square; here each gradient is divided by the root of
    its own day, and the quotients are averaged. Both averages are corrected for their start at zero; decay is AdamW's.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = EPS["laprop"],
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move every parameter that has a gradient; the loss that `closure` computes, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for age, members in self._by_age(group["params"]).items():
                self._move(members, age, group)
        return loss

    def _by_age(self, parameters: list[Tensor]) -> dict[int, list[Tensor]]:
        """Those with a gradient, by the number of steps with this one: one who has it late begins late."""
        found: dict[int, list[Tensor]] = {}
        for parameter in parameters:
            if parameter.grad is None:
                continue
            state = self.state[parameter]
            if not state:
                state.update(step=0, exp_avg=torch.zeros_like(parameter), exp_avg_sq=torch.zeros_like(parameter))
            state["step"] += 1
            found.setdefault(state["step"], []).append(parameter)
        return found

    def _move(self, parameters: list[Tensor], age: int, group: Mapping[str, Any]) -> None:
        """One step of parameters of one age. Corrections are folded into the scalars: seven passes, one copy."""
        (beta1, beta2), lr = group["betas"], group["lr"]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        means = [self.state[parameter]["exp_avg"] for parameter in parameters]
        squares = [self.state[parameter]["exp_avg_sq"] for parameter in parameters]
        root = math.sqrt(1 - beta2**age)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
        scales = torch._foreach_sqrt(squares)
        torch._foreach_add_(scales, group["eps"] * root)
        torch._foreach_mul_(means, beta1)
        torch._foreach_addcdiv_(means, gradients, scales, (1 - beta1) * root)
        if group["weight_decay"]:
            torch._foreach_mul_(parameters, 1 - lr * group["weight_decay"])
        torch._foreach_add_(parameters, means, alpha=-lr / (1 - beta1**age))


# ---------------------------------------------------------------------- below


def _groups(model: Learns, decay: float) -> list[dict[str, Any]]:
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not trained:
        raise UserError(f"{type(model).__name__} has no parameter to train")
    rates = _checked(model)
    members: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in trained.items():
        members.setdefault((_rate(name, rates), parameter.ndim > 1), []).append(parameter)
    return [
        {"params": each, "weight_decay": decay if matrices else 0.0, "rate": rate}
        for (rate, matrices), each in sorted(members.items(), key=lambda item: (not item[0][1], item[0][0]))
    ]


def _checked(model: Learns) -> Mapping[str, float]:
    rates = model.rates()
    names = [name for name, _ in model.named_parameters()]
    for prefix, rate in rates.items():
        where = f"{type(model).__name__}.rates()"
        if not any(_is_under(name, prefix) for name in names):
            known = [name for name, _ in model.named_children()]
            raise UserError(f"{where} names {prefix!r}, which has no parameter.{nearest(prefix, known)}")
        if not (math.isfinite(rate) and rate > 0):
            raise UserError(f"{where}: {prefix!r} has the factor {rate}: give one above 0, or freeze it")
    return rates


def _rate(name: str, rates: Mapping[str, float]) -> float:
    """The factor of the longest prefix that the parameter is under."""
    prefixes = [prefix for prefix in rates if _is_under(name, prefix)]
    return rates[max(prefixes, key=len)] if prefixes else 1.0


def _is_under(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def _norms(tensors: Sequence[Tensor], sharded: bool) -> Tensor:
    """The norm of each tensor: `n`."""
    norms = torch.stack(torch._foreach_norm(list(tensors)))
    return whole(norms) if sharded else norms
