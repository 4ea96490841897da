"""The report of a run: what was taught from what, how it learnt, what it foresees, where it gets."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from einops import rearrange

from innerworld import checkpoint
from innerworld.agent import Agent
from innerworld.data import Clips, Store
from innerworld.evaluate.imagery import album, draw
from innerworld.evaluate.prediction import HORIZONS
from innerworld.models import MODELS
from innerworld.recipes.goals import agent, planner
from innerworld.recipes.lesson import Lesson, episodes
from innerworld.recipes.stages import Outcome
from innerworld.recipes.two_rooms import Control
from innerworld.report import Chart, Curve, Facts, Movie, Page, Picture, Section, Table
from innerworld.types import each
from innerworld.version import VERSION

MOVIES = 3
PLANS = 6
REMEMBERED = 200  # episodes from which families without a decoder pick the picture that they have in mind
PLAYERS = {"oracle": "oracle (true dynamics)", "uniform": "random actions", "smooth": "random, smooth in time"}


def page(
    title: str,
    lead: str,
    command: str,
    outcome: Outcome,
    lessons: Mapping[str, Lesson],
    folders: Mapping[str, Path],
    store: Store,
    control: Control,
    seed: int,
    own: Mapping[str, Control] = MappingProxyType({}),
) -> Page:
    """Everything that a run has to show. `lessons` and `folders` say how and where each family was taught.

    `own` is what differs from `control` for some families, as in `examine`.
    """
    sections = [_taught(outcome, lessons, store), _learning(folders), _foresight(outcome, lessons, store, seed)]
    if outcome.tasks is not None:
        sections.append(_acting(outcome, control, seed))
        sections.append(_plans(outcome, store, control, seed, own))
    sections.append(_method(outcome, lessons, control, seed, own))
    return Page(title, lead, command, sections, _footer(folders))


def plan_page(
    title: str, command: str, outcome: Outcome, folders: Mapping[str, Path], store: Store, control: Control, seed: int
) -> Page:
    """One model's way to its goals."""
    lead = "What the model imagined that it would do, and what it did."
    return Page(title, lead, command, [_plans(outcome, store, control, seed)], _footer(folders))


def _taught(outcome: Outcome, lessons: Mapping[str, Lesson], store: Store) -> Section:
    about = store.meta.about
    facts = [
        ("world", about.env or "-"),
        ("who explored", about.policy or "-"),
        ("experience", f"{len(store):,} episodes, {store.transitions:,} steps"),
    ]
    rows = []
    for name, taught in lessons.items():
        model = outcome.models[name]
        parameters = sum(p.numel() for p in model.parameters())
        train = taught.train
        rows.append(
            [
                name,
                MODELS[name].card.name,
                f"{parameters:,}",
                f"{train.steps:,} × {taught.batch} × {taught.length}",
                f"{train.lr:g}",
                ", ".join(model.spec.obs),
            ]
        )
    table = Table(
        "Who was taught", ["family", "known as", "parameters", "steps × clips × actions", "learning rate", "sees"], rows
    )
    return Section("What was taught from what", "", [Facts(facts), table])


def _learning(folders: Mapping[str, Path]) -> Section:
    logs = {name: _rows(folder / "log.jsonl") for name, folder in folders.items()}
    charts = [
        Chart(
            "Loss",
            "step",
            "loss",
            [_curve(name, rows, "loss") for name, rows in logs.items()],
            log_y=True,
            note="Losses of different families are different sums: compare each with itself only.",
        ),
        Chart(
            "Collapse watch: effective rank",
            "step",
            "dimensions in use",
            [_curve(name, rows, "effective_rank") for name, rows in logs.items()],
            note="Of the features on held-out clips. Near 1, everything would look the same to the model.",
        ),
        Chart(
            "Collapse watch: can the position be read off?",
            "step",
            "R² of a linear probe",
            [_curve(name, rows, "probe_r2", floor=0.0) for name, rows in logs.items()],
            line=1.0,
            line_name="perfect",
        ),
    ]
    return Section(
        "How it learnt", "The loss of a joint-embedding model says little, so its features are watched.", charts
    )


def _foresight(outcome: Outcome, lessons: Mapping[str, Lesson], store: Store, seed: int) -> Section:
    ratio, pixels = (_by_horizon(outcome, key) for key in ("energy_ratio", "pixel_ratio"))
    blocks: list[Any] = [
        Chart(
            "Imagined against observed",
            "steps ahead",
            "error relative to standing still",
            ratio,
            line=1.0,
            log_y=True,
            line_name="standing still",
            note="In each family's own energy. Bands: 95 % bootstrap interval over held-out clips.",
        )
    ]
    if pixels:
        blocks.append(
            Chart(
                "The same in decoded pixels",
                "steps ahead",
                "error relative to standing still",
                pixels,
                line=1.0,
                line_name="standing still",
                log_y=True,
                note="Only families that decode.",
            )
        )
    if any("position_error_1" in known.metrics for known in outcome.knowledge.values()):
        blocks.append(_position_chart(outcome))
    if "pixels" in store.spec.obs:
        blocks += _movies(outcome, lessons, store, seed)
    text = (
        "Held-out episodes. The model looks once, closes its eyes and imagines what its actions will bring. "
        "A family without a decoder cannot draw: for it the movie shows the picture from its training data that its "
        "imagined belief resembles most."
    )
    return Section("What it foresees", text, blocks)


def _acting(outcome: Outcome, control: Control, seed: int) -> Section:
    results = outcome.results()
    rows = []
    for name in outcome.played:
        found = results[name]
        rows.append(
            [
                PLAYERS.get(name, name),
                f"{found['episodes']:.0f}",
                f"{found['success_rate']:.0%}",
                f"{found['success_low']:.0%} to {found['success_high']:.0%}",
                _share(found, "success_rate_far"),
                _share(found, "success_rate_near"),
                f"{found['steps_mean']:.1f}",
                f"{found['plan_ms']:.1f}" if found["plan_ms"] else "-",
                f"{found['cpu_s_per_episode']:.2f}",
            ]
        )
    columns = [
        "who",
        "goals",
        "reached",
        "95 % interval",
        "other room",
        "same room",
        "steps",
        "ms per plan",
        "CPU s per episode",
    ]
    note = (
        f"{control.episodes} episodes of at most {control.budget} steps, fixed beforehand (seed {seed}) from held-out "
        "episodes; none begins solved; the goal is given as a picture only (to the oracle: as a state). "
        "Intervals: Wilson."
    )
    best = next(iter(outcome.models), None)
    emphasise = list(outcome.played).index(best) if best else None
    return Section("Where it gets", "", [Table("Goals reached", columns, rows, note, emphasise)])


def _plans(
    outcome: Outcome, store: Store, control: Control, seed: int, own: Mapping[str, Control] = MappingProxyType({})
) -> Section:
    pictures = []
    for name, model in outcome.models.items():
        probe = outcome.knowledge[name].probe
        if probe is None or outcome.tasks is None or "pixels" not in store.spec.obs:
            continue
        rows = _shown(outcome, name)
        planned = _planned(agent(model, own.get(name, control)), outcome, rows, probe, seed)
        for k, row in enumerate(rows):
            played = outcome.played[name]
            walked = played.path[row, : int(played.steps[row]) + 1, :2]
            end = "reached" if played.success[row] else "not reached"
            start, goal = outcome.tasks.start[row], outcome.tasks.goal[row]
            pictures.append(
                Picture(
                    f"{name}, episode {row}: {end} after {int(played.steps[row])} steps",
                    outcome.tasks.goal_obs["pixels"][row].numpy(),
                    [("first plan, as imagined", planned[k]), ("walked", walked)],
                    [("start", (float(start[0]), float(start[1]))), ("goal", (float(goal[0]), float(goal[1])))],
                )
            )
    text = (
        "The picture is the goal as it was given. The imagined way is read off the imagined beliefs by a linear probe; "
        "the first plan is only the first: the agent plans anew as it goes. "
        "Failures are shown first where there are any."
    )
    return Section("The plan, drawn over the world", text, pictures)


def _method(
    outcome: Outcome, lessons: Mapping[str, Lesson], control: Control, seed: int, own: Mapping[str, Control]
) -> Section:
    search = planner(control)
    lines = [
        ("split", "by episode, before any clip is cut; probes are fitted on episodes that were learnt from"),
        ("seed", str(seed)),
        ("search", f"{control.search}: " + ", ".join(f"{k} {v}" for k, v in search.model_dump().items())),
        ("agent", _plain(control.agent.model_dump())),
    ]
    lines += [
        (f"{name}: acts", f"on the first {its.episodes} goals, {_plain(its.agent.model_dump())}")
        for name, its in own.items()
        if its != control
    ]
    lines += [(f"{name}: model", _plain(taught.model)) for name, taught in lessons.items()]
    if outcome.untried:
        lines.append(("goals", f"not tried: {outcome.untried}"))
    text = "One seed is one sample: the intervals cover the choice of episodes, not the luck of training."
    return Section("How it was measured", text, [Facts(lines)])


def _footer(folders: Mapping[str, Path]) -> Facts:
    header = checkpoint.read_header(next(iter(folders.values())))
    return Facts(
        [
            ("innerworld", VERSION),
            ("commit", header.commit or "-"),
            ("torch", torch.__version__),
            ("machine", f"{platform.machine()}, {platform.system()}, {torch.get_num_threads()} threads"),
            ("date", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
        ]
    )


# ---------------------------------------------------------------------- pieces


def _by_horizon(outcome: Outcome, key: str) -> list[Curve]:
    curves = []
    for name, known in outcome.knowledge.items():
        found = known.metrics
        steps = [h for h in HORIZONS if f"{key}_{h}" in found]
        if steps:
            y, low, high = ([found[f"{key}_{h}{end}"] for h in steps] for end in ("", "_low", "_high"))
            curves.append(Curve(name, steps, y, low, high))
    return curves


def _position_chart(outcome: Outcome) -> Chart:
    curves = []
    for name, known in outcome.knowledge.items():
        steps = [h for h in HORIZONS if f"position_error_{h}" in known.metrics]
        curves.append(Curve(name, steps, [known.metrics[f"position_error_{h}"] for h in steps]))
        still = Curve("standing still", steps, [known.metrics[f"position_standing_still_{h}"] for h in steps])
    note = "A linear probe reads the position off the imagined belief: the same question to every family."
    return Chart(
        "Where it believes to be", "steps ahead", "mean distance to the truth, pixels", [*curves, still], note=note
    )


@torch.no_grad()
def _movies(outcome: Outcome, lessons: Mapping[str, Lesson], store: Store, seed: int) -> list[Movie]:
    first = next(iter(lessons.values()))
    if any(taught.frame_skip > 1 for taught in lessons.values()):
        return []
    learn, held_out = episodes(first, store)
    length = min(max(HORIZONS), int(store.lengths[held_out].max()))
    clip = Clips(store, held_out, length, MOVIES, seed + 1).batch(0)
    panels = [[("real", clip.obs["pixels"][k].numpy())] for k in range(MOVIES)]
    for name, model in outcome.models.items():
        memory = album(model, store, learn[:REMEMBERED])
        start = model.encode(clip.at(0))
        imagined = model.imagine(start, clip.action[:, None])
        for k in range(MOVIES):
            began = draw(model, each(lambda v, k=k: v[k : k + 1], start), memory)
            frames = draw(model, each(lambda v, k=k: v[k, 0], imagined), memory)
            label = f"{name}, imagined" if model.card.decodes else f"{name}, imagined (nearest seen)"
            panels[k].append((label, np.concatenate([began, frames])))
    return [Movie(f"Held-out clip {k + 1}: {length} steps with eyes shut", panels[k]) for k in range(MOVIES)]


def _shown(outcome: Outcome, name: str) -> list[int]:
    """Failures first, then goals in the other room, then the rest; a few of them."""
    played, tasks = outcome.played[name], outcome.tasks
    assert tasks is not None
    order = np.lexsort((~tasks.far[: len(played.success)], played.success))
    return order[: PLANS // len(outcome.models)].tolist()


@torch.no_grad()
def _planned(mind: Agent, outcome: Outcome, rows: Sequence[int], probe: Any, seed: int) -> np.ndarray:
    """The first plan of some tasks as positions `n h 2`, read off the imagined beliefs."""
    tasks = outcome.tasks
    assert tasks is not None
    goal = {name: tasks.goal_obs[name][list(rows)] for name in mind.model.spec.obs}
    start = {name: tasks.start_obs[name][list(rows)] for name in mind.model.spec.obs}
    mind.begin(start, goal, seed)
    mind.act(start)
    assert mind.plan is not None
    imagined = mind.model.imagine(mind.state, mind.plan.actions[:, None])
    n, h = mind.plan.actions.shape[:2]
    flat = each(lambda value: rearrange(value, "b n h ... -> (b n h) ..."), imagined)
    where = mind.model.features(flat).double() @ probe["weights"] + probe["intercept"]
    return where.reshape(n, h, -1)[..., :2].numpy()


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _curve(name: str, rows: Sequence[Mapping[str, Any]], key: str, floor: float = -math.inf) -> Curve:
    points = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
    return Curve(name, [x for x, _ in points], [max(y, floor) for _, y in points])


def _share(found: Mapping[str, float], key: str) -> str:
    return f"{found[key]:.0%}" if key in found else "-"


def _plain(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items() if value not in (0, 0.0, None))
