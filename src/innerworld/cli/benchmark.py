"""`innerworld benchmark RUN physion | physbench`: published benchmarks of physics, on a taught model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console

from innerworld.cli.table import FIELD, field_rows, say, show_table
from innerworld.cli.verb import Answer, Call, Verb
from innerworld.config import override
from innerworld.data.physbench import FILMS, asked, read_physbench
from innerworld.data.physion import Shown, Stimuli, read_physion
from innerworld.errors import UserError
from innerworld.evaluate.contact import ContactConfig
from innerworld.recipes.benchmarks import Judged, judge_physbench, judge_physion
from innerworld.recipes.surprise import load_judged
from innerworld.training import choose_device


@dataclass(frozen=True)
class BenchmarkFlags:
    """Judge a taught model on a published benchmark that lies in a folder, beside random weights and pixels alone.
    physion: will the red thing touch the yellow one? A linear readout of the model's beliefs says; key=value changes
    it, its settings are listed below. physbench: which of several pictures or films comes next? The least surprising;
    questions that need language are left out and counted. IntPhys and IntPhys 2 are read by `innerworld surprise`."""

    run: tyro.conf.Positional[Path]
    """folder of the run, as `innerworld train` makes it"""
    name: tyro.conf.Positional[Literal["physion", "physbench"]]
    """which benchmark"""
    learn: Path | None = None
    """physion: films for the readout to learn from"""
    learn_labels: Path | None = None
    """physion: their table of labels, where they do not bring them"""
    test: Path | None = None
    """physion: films to be judged on; physbench: the folder of test.json, image and video"""
    test_labels: Path | None = None
    """physion: the table of labels of the test; physbench: val_answer.json"""
    leave_out: Path | None = None
    """physion: a text of names of films that do not count, such as the authors' list of faulty ones"""
    last: int = Shown.last
    """physion: the last frame of a film that is seen"""
    last_collide: int = Shown.last_collide
    """physion: the same where things collide"""
    gap: int = Shown.gap
    """physion: every so many frames are seen"""
    frames: int = FILMS
    """physbench: frames of a film, spread evenly over it"""
    abilities: tuple[str, ...] = ("prediction",)
    """physbench: which of the abilities that questions ask for"""
    broken: Literal["stop", "skip"] = "stop"
    """what to do about films that are missing, unreadable or without a label"""
    seed: int = 0
    """of the random weights"""
    device: str = "auto"
    """auto, cpu, cuda or mps"""


def _benchmark(flags: BenchmarkFlags, call: Call) -> Answer:
    if flags.seed < 0 or flags.frames < 1:
        raise UserError("--seed is at least 0, --frames at least 1")
    if flags.test is None:
        raise UserError(f"{flags.name} is read from a folder: give it as --test")
    return _physion(flags, call) if flags.name == "physion" else _physbench(flags, call)


def _physion(flags: BenchmarkFlags, call: Call) -> Answer:
    if flags.learn is None or flags.test is None:
        raise UserError("physion: a readout learns from films, too: give the readout set as --learn")
    config, shown = override(ContactConfig(), call.overrides), Shown(flags.last, flags.last_collide, flags.gap)
    learn = read_physion(flags.learn, flags.learn_labels, flags.leave_out, flags.broken)
    test = read_physion(flags.test, flags.test_labels, flags.leave_out, flags.broken)
    model, _ = load_judged(flags.run, choose_device(flags.device))
    found = judge_physion(model, learn, test, config, shown, flags.broken, flags.seed, call.quiet)
    values = _values(flags, found) | {
        "settings": config.model_dump(mode="json"),
        "learn": _counts(learn),
        "test": _counts(test),
    }
    mine, *others = found["results"].values()
    kinds = [*dict.fromkeys(test.scenarios().tolist()), "all"]
    rows = [_row(kind, mine, others) for kind in kinds]
    means = [f"{result['mean']:.1%}" for result in (mine, *others)]
    rows.append(["mean", "", means[0], "", "", *means[1:], f"{mine['mean_common']:.1%}"])

    def show(console: Console) -> None:
        names = [name for name in found["results"] if name != "model"]
        show_table(console, ("scenario", "films", "model", "95 %", "AUC", *names, "commonest"), rows)
        say(console, f"\nreadout taught on {len(learn):,} films; mean: over scenarios, as published")
        _say_broken(console, flags, found["unreadable"] + learn.unlabelled + test.unlabelled, "films")

    return Answer(values, show)


def _physbench(flags: BenchmarkFlags, call: Call) -> Answer:
    if call.overrides:
        raise UserError(f"physbench has no settings beside its flags: leave out {call.overrides[0]}")
    assert flags.test is not None
    items = read_physbench(flags.test, flags.test_labels)
    few = asked(items, flags.abilities, flags.broken)
    model, _ = load_judged(flags.run, choose_device(flags.device))
    found = judge_physbench(model, few, flags.frames, flags.broken, flags.seed, call.quiet)
    values = _values(flags, found) | {"questions": len(items), "skipped": few.skipped}
    rows = [
        [who, f"{told['right']:.1%}", f"{told['low']:.1%} to {told['high']:.1%}", f"{told['chance']:.1%}"]
        for who, told in found["results"].items()
    ]

    def show(console: Console) -> None:
        show_table(console, ("who", "right", "95 %", "chance"), rows)
        say(
            console,
            f"\n{len(few) - found['unreadable']:,} of {len(items):,} questions were asked; the others were not:",
        )
        show_table(console, ("questions", "because"), [[f"{count:,}", why] for why, count in few.skipped.items()])
        _say_broken(console, flags, found["unreadable"], "questions")

    return Answer(values, show)


def _values(flags: BenchmarkFlags, found: Judged) -> dict[str, Any]:
    return {"run": str(flags.run), "benchmark": flags.name, **found}


def _counts(stimuli: Stimuli) -> dict[str, int]:
    return {"films": len(stimuli), "unlabelled": stimuli.unlabelled, "left_out": stimuli.left_out}


def _row(kind: str, mine: dict[str, float], others: list[dict[str, float]]) -> list[str]:
    interval = f"{mine[f'{kind}_low']:.1%} to {mine[f'{kind}_high']:.1%}"
    shares = [f"{other[kind]:.1%}" for other in others]
    told = [f"{mine[kind]:.1%}", interval, f"{mine[f'{kind}_auc']:.2f}"]
    return [kind, f"{mine[f'{kind}_films']:,.0f}", *told, *shares, f"{mine[f'{kind}_common']:.1%}"]


def _say_broken(console: Console, flags: BenchmarkFlags, count: int, what: str) -> None:
    if flags.broken == "skip":
        say(console, f"{count:,} {what} were skipped, broken or without a label")


def _settings(console: Console, words: Sequence[str]) -> None:
    say(console, "\nKeys of physion, as key=value:\n")
    show_table(console, FIELD, field_rows(ContactConfig()))


BENCHMARK = Verb(BenchmarkFlags, _benchmark, takes_overrides=True, after_help=_settings)
