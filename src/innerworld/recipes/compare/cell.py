"""One run of a comparison: taught, then asked; every answer is a file of its own, and what is there is not redone."""

from __future__ import annotations

import io
import json
import math
import shutil
import time
import traceback
import uuid
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray

from innerworld import checkpoint
from innerworld.data import POLICIES, About, Store, collect
from innerworld.disk import write_atomic
from innerworld.envs import make, spec_of
from innerworld.errors import UserError, choose
from innerworld.evaluate.exam import Along, Answer, Exam
from innerworld.evaluate.questions import QUESTIONS
from innerworld.recipes.compare.lab import lab
from innerworld.recipes.compare.plan import Cell, Plan, World, gathered
from innerworld.recipes.lesson import Lesson, actions, episodes, teach
from innerworld.world import WorldModel

TEACHING = "training"  # who failed before anything could be asked


@dataclass(frozen=True)
class Found:
    """What came of one question in one run, as its file tells it. Of numbers, reason and failure there is one kind."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    skipped: str = ""  # why the question does not apply
    failure: str = ""  # what went wrong, in one line
    curves: Mapping[str, Along] = field(default_factory=dict)
    films: Mapping[str, Sequence[str]] = field(default_factory=dict)  # by caption the names of the panels
    seconds: float = 0.0  # of the answer, CPU


def data_folder(home: Path, world: World, seed: int) -> Path:
    """Where the experience of a world and seed lies."""
    return Path(world.store) if world.store else home / "data" / f"{world.folder}-{seed}"


def gather(home: Path, plan: Plan, job: tuple[World, int]) -> None:
    """Collect a world's episodes with a seed; the store appears whole or not at all. For workers."""
    world, seed = job
    terms, sensors = plan.terms.experience, gathered(plan.terms, world)
    path = data_folder(home, world, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    begun = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        worlds = min(terms.worlds, terms.episodes)
        with closing(make(world.name, worlds, terms.size, max_steps=terms.max_steps, sensors=sensors)) as many:
            spec = spec_of(many.single_observation_space, many.single_action_space)
            policy = choose("policy", terms.policy, POLICIES)(spec)
            store = Store.create(begun, spec, About(env=world.name, policy=terms.policy, seed=seed))
            collect(many, policy, terms.episodes, store, seed)
        if not path.exists():
            begun.rename(path)
    finally:
        shutil.rmtree(begun, ignore_errors=True)


def sit(home: Path, plan: Plan, command: str, cell: Cell) -> None:
    """Teach the run, or go on with it, and ask it what it has not answered yet. For workers.

    An error in teaching is the failure of all its questions, one in a question only of that.
    """
    due = [name for name in plan.questions if not is_answered(home, cell, name)]
    if not due:
        return
    run = home / "runs" / cell.folder
    lesson = lesson_of(home, plan, cell)
    began, goes_on = time.process_time(), checkpoint.exists(run)
    try:
        model = teach(lesson, run, quiet=True, resume=goes_on, command=command)
        assert isinstance(model, WorldModel), "entries are of MODELS"
        if not read_run(home, cell):  # else it was only loaded, which is no training
            _note_run(home, cell, model, time.process_time() - began, goes_on)
        store = Store.open(lesson.data)
    except Exception as error:
        failure = _line(error)
        for name in due:
            _write(home, cell, name, Found(failure=f"{TEACHING}: {failure}"), traceback.format_exc())
        return
    learn, held_out = episodes(lesson, store)
    model = model.to("cpu").eval()
    with closing(lab(home, plan, cell, model, store, held_out)) as made:
        exam = Exam(
            model,
            store,
            learn,
            held_out,
            actions(lesson),
            made.lab,
            lesson.frame_skip,
            cell.seed,
            plan.terms.exam,
        )
        for name in due:
            _ask(home, cell, name, exam)


def lesson_of(home: Path, plan: Plan, cell: Cell) -> Lesson:
    """What the run is taught."""
    teaching, terms = cell.entry.teaching, plan.terms
    return Lesson(
        family=cell.entry.family,
        data=str(data_folder(home, cell.world, cell.seed)),
        sensors=terms.sensors,
        held_out=terms.held_out,
        split_seed=cell.seed,
        batch=teaching.batch,
        length=teaching.length,
        frame_skip=teaching.frame_skip,
        workers=0,
        model=cell.entry.model,
        train=teaching.train.model_copy(update={"steps": cell.updates, "seed": cell.seed}),
    )


def is_answered(home: Path, cell: Cell, question: str) -> bool:
    """Has it, with numbers or a reason? One that failed is asked again."""
    found = read_answer(home, cell, question)
    return found is not None and not found.failure


def read_answer(home: Path, cell: Cell, question: str) -> Found | None:
    """The answer as its file tells it; None where there is none."""
    try:
        told = json.loads(answer_file(home, cell, question).read_text(encoding="utf-8"))
        curves = {title: _along(each) for title, each in told["curves"].items()}
        metrics = {name: _number(value) for name, value in told["metrics"].items()}
        return Found(metrics, told["skipped"], told["failure"], curves, told["films"], told["seconds"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # it is asked again


def read_run(home: Path, cell: Cell) -> dict[str, Any]:
    """What is known of a run that was taught; empty where it was not.

    Among others CPU `seconds`, of the last part alone where it was `interrupted`; and whether a part of the model still
    `waits` for another to be taught, so that it has learnt nothing.
    """
    try:
        return json.loads((home / "answers" / cell.folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def read_films(home: Path, cell: Cell, question: str) -> dict[str, list[tuple[str, NDArray[Any]]]]:
    """The films of an answer, by their captions: the panels, each a title and frames `t y x c`. Raises `UserError`."""
    found = read_answer(home, cell, question)
    if found is None or not found.films:
        return {}
    path = answer_file(home, cell, question).with_suffix(".npz")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            panels = iter([kept[f"arr_{i}"] for i in range(len(kept.files))])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise UserError(f"cannot read {path} ({error}): delete {path.with_suffix('.json').name} to ask again") from None
    return {caption: [(title, next(panels)) for title in titles] for caption, titles in found.films.items()}


def answer_file(home: Path, cell: Cell, question: str) -> Path:
    return home / "answers" / cell.folder / f"{question}.json"


def fail(home: Path, cell: Cell, questions: Sequence[str], failure: str) -> None:
    """Note what was not answered, and why."""
    for name in questions:
        if not is_answered(home, cell, name):
            _write(home, cell, name, Found(failure=failure))


def _ask(home: Path, cell: Cell, name: str, exam: Exam) -> None:
    began = time.process_time()
    torch.manual_seed(exam.seed)  # or an answer would depend on what was asked before it
    try:
        answer = QUESTIONS[name].ask(exam)
    except Exception as error:
        _write(home, cell, name, Found(failure=_line(error)), traceback.format_exc())
        return
    spent = time.process_time() - began
    if answer.films:
        _write_films(answer_file(home, cell, name).with_suffix(".npz"), answer)
    titles = {caption: [title for title, _ in panels] for caption, panels in answer.films.items()}
    _write(home, cell, name, Found(answer.metrics, answer.skipped, "", answer.curves, titles, spent))


def _note_run(home: Path, cell: Cell, model: WorldModel, seconds: float, interrupted: bool) -> None:
    path = home / "answers" / cell.folder / "run.json"
    told = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "updates": cell.updates,
        "seconds": round(seconds, 3),
        "interrupted": interrupted,
        "waits": model.waits(),
        "sensors": list(model.spec.obs),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, [json.dumps(told, indent=2).encode()])


def _write(home: Path, cell: Cell, question: str, found: Found, trace: str = "") -> None:
    told = {
        "question": question,
        "metrics": {name: _plain(value) for name, value in found.metrics.items()},
        "skipped": found.skipped,
        "failure": found.failure,
        "curves": {title: _told(along) for title, along in found.curves.items()},
        "films": {caption: list(titles) for caption, titles in found.films.items()},
        "seconds": round(found.seconds, 3),
    }
    path = answer_file(home, cell, question)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, [json.dumps(told | ({"trace": trace} if trace else {}), indent=2, allow_nan=False).encode()])


def _write_films(path: Path, answer: Answer) -> None:
    """The panels of all films, in order."""
    frames = [panel for panels in answer.films.values() for _, panel in panels]
    packed = io.BytesIO()
    np.savez_compressed(packed, *frames)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, [packed.getvalue()])


def _told(along: Along) -> dict[str, Any]:
    told = asdict(along)
    told["points"] = [[x, _plain(y)] for x, y in along.points]
    told["others"] = {name: [[x, _plain(y)] for x, y in points] for name, points in along.others.items()}
    return told


def _along(told: Mapping[str, Any]) -> Along:
    points = lambda pairs: tuple((x, _number(y)) for x, y in pairs)
    others = {name: points(pairs) for name, pairs in told["others"].items()}
    return Along(told["x"], told["y"], points(told["points"]), told["level"], told["level_name"], others)


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
