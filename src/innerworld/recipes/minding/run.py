"""Let an agent act for a few episodes and show what there was: a table, explanations, a page, and its films."""

from __future__ import annotations

import json
import math
import platform
import re
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from innerworld.agent import TrainableCritic, TrainableCriticConfig
from innerworld.disk import write_atomic
from innerworld.errors import UserError
from innerworld.evaluate.imagery import Album, album
from innerworld.log import Bar
from innerworld.recipes.minding.episode import Diary, drawer, live
from innerworld.recipes.minding.known import AS_SEEN, Known, open_known
from innerworld.recipes.minding.learning import Job, Learning, critic_file, job_of
from innerworld.recipes.minding.learnt import section as learnt_section
from innerworld.recipes.minding.learnt import sentences
from innerworld.recipes.minding.modules import Furnishing, Mind, Schooling, furnish
from innerworld.recipes.minding.page import SHOWN as FILMED
from innerworld.recipes.minding.page import numbers, outcome, sections
from innerworld.recipes.minding.wishes import RANDOM, REWARD, Wish, phrases_of, wishes
from innerworld.recipes.pages import footer
from innerworld.recipes.two_rooms import Control
from innerworld.report import Facts, Movie, Page, Section, write
from innerworld.report.movie import compose, encode
from innerworld.version import VERSION

REMEMBERED = 100  # episodes from which a model without a decoder picks the picture that it has in mind
SHOWN = ("episode", "surprise", "closest", "ms")  # in the line of progress


@dataclass(frozen=True)
class Errand:
    """What the agent is to do, and where."""

    model: str  # folder of a run, or "oracle"
    goal: str = "random"
    env: str | None = None  # another world than the run's
    data: Path | None = None  # another store than the run's
    goals: Path | None = None  # folder of pictures whose names sentences may mean
    seed: int = 0
    furnishing: Furnishing = field(default_factory=Furnishing)
    learning: Learning | None = None  # on the job; none: nothing of the run changes
    critic: bool = False  # the critic that learnt with the run, or that learns along, is part of the cost


def run_agent(
    errand: Errand,
    control: Control,
    episodes: int,
    out: Path | None = None,
    films: Path | None = None,
    quiet: bool = False,
    command: str = "",
) -> dict[str, Any]:
    """Act for so many episodes of at most `control.budget` steps; writes `agent.html` and `agent.json` into
    `out` (none: the run's folder). Where it learns on the job, the changed run is kept in `out`, too.

    Raises `UserError` for a run, a world, a goal or a module that does not fit.
    """
    known = open_known(errand.model, errand.data, errand.env)
    folder = out or known.folder or Path("runs") / "agent"
    for made in (folder, films):
        _make(made)  # now, or the time would be lost
    with ExitStack() as open_ones:
        open_ones.enter_context(closing(known.world))
        wanted = wishes(errand.goal, known, control, episodes, errand.seed, errand.goals)
        phrases = phrases_of(errand.goals, known.model.spec)
        critic = _critic(known, errand)
        job = None
        if errand.learning is not None:
            doing = job_of(known, folder, _learning(errand), critic, _settings(errand, control), command)
            job = open_ones.enter_context(doing)
        schooling = Schooling(critic=critic) if job is None else Schooling(job.learner, job.memory, critic)
        mind = furnish(known, control, errand.furnishing, errand.goal == REWARD, phrases, errand.seed, schooling)
        diaries = _live_all(known, mind, wanted, control.budget, errand.seed, quiet, job)
        learnt = None if job is None else job.told()
    if learnt is not None:
        mind.told["learning"] = " ".join(sentences(learnt))
    shown = sections(diaries, mind.told, known.block, known.model.card.decodes)
    if learnt is not None:
        shown.insert(1, learnt_section(learnt))
    who = known.model.card.name
    lead = f"{_score(diaries)}. World: {known.env}; goal: {errand.goal}; model: {who}; seed: {errand.seed}."
    page = Page(f"innerworld: {known.name} acts in {known.env}", lead, command, shown, _footer(known))
    values: dict[str, Any] = {
        "env": known.env,
        "goal": errand.goal,
        "modules": mind.told,
        "episodes": [_values(diary) for diary in diaries],
        "page": str(write(page, folder / "agent.html")),
    } | ({} if learnt is None else {"learnt": learnt})
    write_atomic(folder / "agent.json", [json.dumps(_finite(values), indent=1).encode()])
    return values | ({} if films is None else {"films": [str(file) for file in _save(shown, films)]})


def _make(folder: Path | None) -> None:
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {folder}: {error.strerror}") from None


def _settings(errand: Errand, control: Control) -> dict[str, Any]:
    """What must be the same when learning on the job goes on."""
    asked = {"goal": errand.goal, "env": errand.env, "seed": errand.seed}
    return asked | {"control": control.model_dump(mode="json", exclude={"episodes"})}


def _learning(errand: Errand) -> Learning:
    """How it learns: where there is a deadline between episodes, for an update takes its time within `act`. Raises
    `UserError` for modules that would no longer mean what they say."""
    assert errand.learning is not None
    learning, furnishing = errand.learning, errand.furnishing
    for flag, module in (("--guard", furnishing.guard), ("--habit", furnishing.habit)):
        if module is not None:
            raise UserError(f"{flag} reads the model's features, whose meaning --learn changes: leave one of them out")
    if furnishing.deadline_s is None:
        return learning
    return replace(learning, config=learning.config.model_copy(update={"every": 0}))


def _critic(known: Known, errand: Errand) -> TrainableCritic | None:
    """That which learnt with the run, or a new one, if it is to learn now."""
    if not errand.critic:
        return None
    kept = None if known.folder is None else critic_file(known.folder)
    if kept is not None:
        return TrainableCritic.of(kept)
    if errand.learning is None:
        raise UserError(f"no critic has learnt with {known.name}: let one learn with --learn --critic")
    return TrainableCritic(TrainableCriticConfig(goals=errand.goal == RANDOM))  # else there is one goal for all


def _live_all(
    known: Known, mind: Mind, wanted: Sequence[Wish], budget: int, seed: int, quiet: bool, job: Job | None
) -> list[Diary]:
    picture = drawer(known, _album(known))
    diaries = []
    done = 0 if job is None else len(job.rows)
    if done >= len(wanted):
        raise UserError(f"{done} episodes are done already: give more with --episodes to go on learning")
    learner = None if job is None else job.learner
    eyes = 0 if learner is None else learner.eyes
    with Bar(len(wanted) * budget, quiet, title="act", shown=SHOWN) as bar:
        for k, wish in enumerate(wanted):
            if k < done:
                continue

            def tell(done: int, row: dict[str, float], before: int = k * budget) -> None:
                bar(before + done - 1, {"episode": float(before // budget), **row})

            if job is not None:
                job.begin(k)
            if learner is not None and learner.eyes != eyes and len(diaries) < FILMED:
                picture, eyes = drawer(known, _album(known)), learner.eyes  # what is remembered looks different now
            diaries.append(live(known, mind.agent, wish, budget, seed + k, picture, tell, learner))
            if job is not None:
                job.end(diaries[-1], last=k == len(wanted) - 1)
    return diaries


def _album(known: Known) -> Album | None:
    """What a model without a decoder has seen; none where it draws, or nothing was recorded in pictures."""
    store = known.store
    if known.model.card.decodes and AS_SEEN in known.model.spec.obs:
        return None
    if store is None or known.learnt is None or AS_SEEN not in store.spec.obs:
        return None
    return album(known.model, store, known.learnt[:REMEMBERED], AS_SEEN, known.block)


def _score(diaries: Sequence[Diary]) -> str:
    judged = [diary.reached for diary in diaries if diary.reached is not None]
    if judged:
        return f"{sum(judged)} of {len(judged)} goals reached"
    return f"Mean return {sum(diary.score for diary in diaries) / len(diaries):.4g} in {len(diaries)} episodes"


def _values(diary: Diary) -> dict[str, Any]:
    told = [one.as_dict() for one in diary.decisions]
    told = [{"step": start, **one} for start, one in zip(diary.starts, told, strict=True)]
    first = str(diary.decisions[0]) if diary.decisions else ""
    found = {"outcome": outcome(diary), "note": diary.wish.note, "trouble": diary.trouble, "first": first}
    return {**numbers(diary), **found, "explanations": told}


def _footer(known: Known) -> Facts:
    if known.folder is not None:
        return footer({known.name: known.folder})
    machine = f"{platform.machine()}, {platform.system()}, {torch.get_num_threads()} threads"
    return Facts([("innerworld", VERSION), ("torch", torch.__version__), ("machine", machine)])


def _save(shown: Sequence[Section], folder: Path) -> list[Path]:
    """Every film as a WebP file, by the title of its section."""
    files = []
    for section in shown:
        title = section.title.partition(":")[0]
        for i, movie in enumerate(block for block in section.blocks if isinstance(block, Movie)):
            name = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
            files.append(folder / f"{name}-{('whole', 'first-plan')[i]}.webp")
            write_atomic(files[-1], [encode(compose(movie))[0]])
    return files


def _finite(value: Any) -> Any:
    """JSON has no NaN: it becomes null."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
