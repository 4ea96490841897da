"""The page of one training run: how it learnt, whether the alarm rang, what its latents keep, what it imagines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from innerworld import checkpoint
from innerworld.data import Store
from innerworld.evaluate.judge import Knowledge
from innerworld.evaluate.latents import Latents
from innerworld.learns import Learns
from innerworld.log import progress
from innerworld.perception import Encoder
from innerworld.recipes.curves import Log, learning_curves, rang, read_log
from innerworld.recipes.demo import finish
from innerworld.recipes.foresight import IMAGINED, movies
from innerworld.recipes.latents import latent_sections, look
from innerworld.recipes.lesson import Lesson, episodes, read, watch_of
from innerworld.recipes.pages import footer, plain, taught
from innerworld.recipes.stages import Outcome
from innerworld.report import Facts, Page, Section, write
from innerworld.training import choose_device
from innerworld.world import WorldModel

REMEMBERED = 50  # episodes, as in `movies`: fewer than in a report, for this page is written after every training


def show_training(folder: Path, quiet: bool = False, command: str = "") -> Path:
    """Write `train.html` into a run's folder, out of its log and its newest checkpoint; also while it still runs.

    Raises `UserError` for a folder without a run, a store that is gone, and latents that are not finite.
    """
    lesson = read(folder)
    store = Store.open(lesson.data)
    with progress("look at latents", 1, quiet) as show:
        model = checkpoint.load(folder, device=choose_device(lesson.train.device))
        found = look(model, lesson, store)
        show(1)
    return write(_page(folder, model, lesson, store, found, command), folder / "train.html")


def evaluate_eyes(folder: Path, data: Path | None, seed: int, quiet: bool, command: str) -> dict[str, Any]:
    """Judge taught eyes on held-out episodes by the collapse watch and by what their latents keep.

    Report and numbers go into the run's folder. `data` is another store to judge them on.
    """
    lesson = read(folder)
    lesson = lesson if data is None else lesson.model_copy(update={"data": str(data)})
    store = Store.open(lesson.data)
    model = checkpoint.load(folder, kind=Encoder)
    with progress("judge", 2, quiet) as show:
        metrics = watch_of(model, lesson, store, episodes(lesson, store)[1])()
        show(1)
        found = look(model, lesson, store, seed)
        show(2)
    outcome = Outcome(untried="eyes only see")
    outcome.knowledge[lesson.family] = Knowledge(metrics | (found.metrics if found else {}), None)
    made = _page(folder, model, lesson, store, found, command)
    return finish(outcome, {"folder": str(folder), "data": lesson.data, "seed": seed}, made, folder)


def _page(folder: Path, model: Learns, lesson: Lesson, store: Store, found: Latents | None, command: str) -> Page:
    name, log = lesson.family, read_log(folder)
    latents = {} if found is None else {name: found}
    sections = [
        taught({name: model}, {name: lesson}, store),
        learning_curves({name: log}),
        *latent_sections(latents),
        *_imagined(model, lesson, store, latents),
        _method(lesson, found),
    ]
    return Page(f"innerworld: {folder.name}", _lead(folder, lesson, log), command, sections, footer({name: folder}))


def _lead(folder: Path, lesson: Lesson, log: Log) -> str:
    step = checkpoint.read_header(folder).step
    alarm = " The collapse alarm rang." if rang(log) else ""
    return f"One training of {lesson.family}, after {step:,} of {lesson.train.steps:,} steps.{alarm}"


def _imagined(model: Learns, lesson: Lesson, store: Store, latents: dict[str, Latents]) -> list[Section]:
    """Films, where there is something to film."""
    if not isinstance(model, WorldModel):
        return []
    name = lesson.family
    for seen in latents.values():
        if seen.decoder is not None:
            seen.decoder.cpu()
    films = movies({name: model.cpu()}, latents, {name: lesson}, store, lesson.train.seed, REMEMBERED)
    return [Section("What it imagines", IMAGINED, films)] if films else []


def _method(lesson: Lesson, found: Latents | None) -> Section:
    lines = [
        ("split", "by episode, before any clip is cut; probe, neighbours and drawings are judged on held-out ones"),
        ("seed", str(lesson.train.seed)),
        ("training", plain(lesson.train.model_dump())),
        ("model", plain(lesson.model)),
    ]
    if found is not None:
        lines.append(("latents", f"{found.seconds:.1f} s to find the neighbours and to train the small decoder"))
    return Section("How it was made", "", [Facts(lines)])
