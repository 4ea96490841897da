"""One model in many processes: DDP or FSDP2 around its loss, and a batch norm over the whole batch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from innerworld.errors import UserError
from innerworld.learns import Learns
from innerworld.team import Team, mean_of_all, rows_of_all
from innerworld.types import Clip

Strategy = Literal["ddp", "fsdp"]
Measured = tuple[Tensor, dict[str, Tensor]]


class LossOf(nn.Module):
    """A model's loss as a module's `forward`: what DDP, FSDP and their hooks want."""

    def __init__(self, model: Learns, measure: Callable[[Clip], Measured]) -> None:
        super().__init__()
        self.model = model
        self.measure = measure

    def forward(self, clip: Clip) -> Measured:
        return self.measure(clip)


def with_ddp(loss: LossOf, clip: Clip, device: torch.device) -> nn.Module:
    """Every process has the whole model; gradients are averaged. The weights become those of the first process."""
    from torch.nn.parallel import DistributedDataParallel

    ids = [device] if device.type == "cuda" else None
    # Buffers are not copied each step: what is counted or averaged over the batch is the same in all already.
    idle = bool(_idle(loss.model, clip))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch 2.13 renames broadcast_buffers, 2.10 knows no other name
        return DistributedDataParallel(loss, device_ids=ids, broadcast_buffers=False, find_unused_parameters=idle)


def _idle(model: Learns, clip: Clip) -> list[str]:
    """Parameters to which no gradient comes: DDP would wait for them. Found on two clips; leaves no trace."""
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    device = next(model.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        model.loss(clip.rows(slice(0, 2)))[0].backward()
    idle = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    model.zero_grad()
    with torch.no_grad():
        for name, value in model.named_buffers():
            value.copy_(buffers[name])
    return idle


def with_fsdp(loss: LossOf, team: Team, device: torch.device) -> nn.Module:
    """Every process has its rows of each parameter; blocks (the elements of module lists) are gathered one by one.

    Raises `UserError` for a parameter without axes, which cannot be spread.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    if scalars := [name for name, parameter in loss.model.named_parameters() if parameter.ndim == 0]:
        raise UserError(f"fsdp cannot spread {scalars[0]}, which has no axes: use --strategy ddp, or give it one")
    mesh = init_device_mesh(device.type, (team.world,))
    for block in _blocks(loss.model):
        methods = [name for name, value in vars(type(block)).items() if callable(value) and not name.startswith("_")]
        fully_shard(block, mesh=mesh)
        for method in methods:
            if method != "forward":  # a block may be stepped by other verbs than forward
                register_fsdp_forward_method(block, method)
    fully_shard(loss, mesh=mesh, reshard_after_forward=False)
    return loss


def _blocks(model: nn.Module) -> list[nn.Module]:
    """The elements of module lists that hold parameters, the innermost first."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    blocks = [block for each in reversed(lists) for block in each]
    return [block for block in blocks if any(True for _ in block.parameters())]


@contextmanager
def gathered(loss: nn.Module, strategy: Strategy, team: Team) -> Iterator[None]:
    """Inside, the model can be used by any of its verbs; under FSDP all processes must do the same with it."""
    if team.alone or strategy == "ddp":
        yield
        return
    from torch.distributed.fsdp import FSDPModule

    spread = [module for module in loss.modules() if isinstance(module, FSDPModule)]
    for module in spread:
        module.unshard()
    try:
        yield
    finally:
        for module in spread:
            module.reshard()


def whole(value: Tensor) -> Tensor:
    """What FSDP spread, put together: all processes must ask."""
    from torch.distributed.tensor import DTensor

    return value.full_tensor() if isinstance(value, DTensor) else value


def local(value: Tensor) -> Tensor:
    """This process's part of what FSDP spread, not a copy."""
    from torch.distributed.tensor import DTensor

    return value.to_local() if isinstance(value, DTensor) else value


# ---------------------------------------------------------------------- batch norm


class _NormOfAll(_BatchNorm):
    """Batch norm over the rows of all processes, on any device (torch's own SyncBatchNorm needs a GPU)."""

    def _check_input_dim(self, input: Tensor) -> None:
        return

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        axes = [axis for axis in range(input.ndim) if axis != 1]
        shape = [1, -1] + [1] * (input.ndim - 2)
        mean = mean_of_all(input.mean(axes))
        centred = input - mean.view(shape)
        variance = mean_of_all(centred.square().mean(axes))
        self._remember(mean.detach(), variance.detach(), rows_of_all(input.numel() // input.shape[1]))
        out = centred * (variance + self.eps).rsqrt().view(shape)
        return out * self.weight.view(shape) + self.bias.view(shape) if self.affine else out

    def _remember(self, mean: Tensor, variance: Tensor, n: int) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            part = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), part)
            self.running_var.lerp_((variance * n / max(1, n - 1)).to(self.running_var.dtype), part)


@contextmanager
def norms_of_all(model: nn.Module, team: Team) -> Iterator[None]:
    """Let every batch norm of the model see the whole batch inside, and make them what they were afterwards."""
    plain = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    found = {name: module for name, module in model.named_modules() if isinstance(module, plain) and not team.alone}
    for name, module in found.items():
        _swap(model, name, module, _NormOfAll(module.num_features, module.eps, module.momentum, module.affine))
    try:
        yield
    finally:
        for name, module in found.items():
            _swap(model, name, cast(_BatchNorm, model.get_submodule(name)), module)


def _swap(model: nn.Module, name: str, old: _BatchNorm, new: _BatchNorm) -> None:
    new.weight, new.bias = old.weight, old.bias
    new.running_mean, new.running_var = old.running_mean, old.running_var
    new.num_batches_tracked = old.num_batches_tracked
    new.train(old.training)
    model.set_submodule(name, new)
