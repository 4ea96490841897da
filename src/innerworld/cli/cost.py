"""`innerworld cost FAMILY`: what a training step costs, before anything is bought or begun."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import tyro
from rich.console import Console

from innerworld.cli.preset import begin
from innerworld.cli.table import show_table
from innerworld.cli.verb import Answer, Call, Verb
from innerworld.data import Store, spec_of_skip
from innerworld.errors import UserError, choose
from innerworld.families import FAMILIES
from innerworld.recipes.cost import Cost, cost
from innerworld.types import Spec


@dataclass(frozen=True)
class CostFlags:
    """Count what a training step of a family of world models or eyes costs: arithmetic, bytes read, memory, network.
    `KEY=VALUE` changes the settings of the model, as `model.KEY=VALUE` of `innerworld train` does."""

    family: tyro.conf.Positional[str]
    """a name of `innerworld models`"""
    data: str | None = None
    """folder of a store, for what the model sees; None: pictures of --size, and --action"""
    size: int = 64
    """side of the pictures, in pixels, without --data"""
    action: int = 2
    """numbers in an action, without --data"""
    preset: str | None = None
    """the settings to begin with, see `innerworld models FAMILY`: by default small, of eyes tiny; none: the family's
    defaults"""
    sensors: tuple[str, ...] = ()
    """what the model sees; by default all images, or all vectors where there are none"""
    batch: int = 64
    """clips in a training step, of one process"""
    length: int = 12
    """actions in a clip; for eyes frames"""
    frame_skip: int = 1
    """steps joined into one"""
    processes: int = 2
    """that train together, for memory and network"""


def _cost(flags: CostFlags, call: Call) -> Answer:
    choose("family", flags.family, FAMILIES)
    if min(flags.batch, flags.length, flags.processes, flags.size, flags.action) < 1:
        raise UserError("--batch, --length, --processes, --size and --action are at least 1")
    config = begin(flags.family, flags.preset, call.overrides)
    counted = cost(flags.family, config, _spec(flags), flags.batch, flags.length)
    n = flags.processes
    shared = {
        strategy: {"bytes_state": counted.bytes_state(n, strategy), "bytes_sent": counted.bytes_sent(n, strategy)}
        for strategy in ("ddp", "fsdp")
    }
    values: dict[str, Any] = asdict(counted) | {"flops": counted.flops, "processes": n, **shared}
    return Answer(values, lambda console: _show(console, counted, n))


def _spec(flags: CostFlags) -> Spec:
    if flags.data is None:
        spec = Spec({"pixels": (flags.size, flags.size, 3)}, flags.action)
    else:
        spec = Store.open(flags.data).spec
        spec = spec.only(*(flags.sensors or spec.images() or spec.vectors()))
    return spec_of_skip(spec, flags.frame_skip)


def _show(console: Console, counted: Cost, n: int) -> None:
    rows = [
        ("parameters trained", f"{counted.parameters:,}"),
        ("parameters that are not: frozen eyes, a slow copy", f"{counted.parameters_still:,}"),
        ("arithmetic, forward", f"{counted.flops_forward / 1e9:,.2f} GFLOP"),
        ("arithmetic, backward", f"{counted.flops_backward / 1e9:,.2f} GFLOP"),
        ("of both, by formula, linear and convolution layers", f"{counted.flops_layers / 1e9:,.2f} GFLOP"),
        ("read from the store", _megabytes(counted.bytes_read)),
        ("memory: parameters, gradients, AdamW", _megabytes(counted.bytes_state())),
        ("memory: activations and all else in a step, at most", _megabytes(counted.bytes_working)),
        (f"of {n} processes, memory of each under ddp", _megabytes(counted.bytes_state(n, "ddp"))),
        (f"of {n} processes, memory of each under fsdp", _megabytes(counted.bytes_state(n, "fsdp"))),
        (f"of {n} processes, sent by each under ddp", _megabytes(counted.bytes_sent(n, "ddp"))),
        (f"of {n} processes, sent by each under fsdp", _megabytes(counted.bytes_sent(n, "fsdp"))),
    ]
    show_table(console, ("a step, on one process", ""), rows)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.2f} MB"


COST = Verb(CostFlags, _cost, takes_overrides=True)
