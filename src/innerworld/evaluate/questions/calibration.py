"""Does it know how sure it may be? The spread of sampled futures against their error."""

from __future__ import annotations

from innerworld.evaluate.calibration import DRAWS, calibrated, forecasts, rank_histogram
from innerworld.evaluate.exam import Along, Answer, Exam, Question, skip
from innerworld.evaluate.expense import imagined_step
from innerworld.evaluate.judge import fit_probe
from innerworld.types import Clip
from innerworld.world import at

CONTEXT = 3  # steps that are looked at
HORIZONS = (1, 2, 4, 8)
CLIPS = (64, 32, 16, 8)  # the first of these for which `FLOPS` suffice
FLOPS = 2e12  # of all draws; not counted in seconds, which would make clips depend on luck


def ask(exam: Exam) -> Answer:
    """`SENSE_spread_skill` and the like of what can be asked, see `forecasts`; `spread_skill` is that of the belief,
    or without a state of the first image."""
    context = min(CONTEXT, exam.longest - 1)
    horizons = [h for h in HORIZONS if context + h <= exam.longest]
    if not horizons:
        return skip("the held-out episodes are too short to imagine anything of them")
    probe = None
    if exam.knows_state():
        probe = fit_probe(exam.model, exam.store, exam.learn, exam.held_out, exam.frame_skip, exam.config.episodes)
    device = next(exam.model.parameters()).device
    clip = exam.clip(context + max(horizons), max(CLIPS)).to(device)
    clip = clip.rows(slice(0, _fitting(exam, clip, context, max(horizons))))
    found = forecasts(exam.model, clip, horizons, probe, context, DRAWS, exam.seed)
    if not found:
        return skip("it tells nothing that could be held to the truth: no state to probe, no reward, no picture")
    metrics, curves = {}, {}
    for sense, by_horizon in found.items():
        told = calibrated(by_horizon, exam.seed)
        metrics |= {f"{sense}_{name}": value for name, value in told.items()}
        points = tuple((float(h), told[f"spread_skill_{h}"]) for h in by_horizon)
        curves[f"Spread of {sense}"] = Along("steps ahead", "spread over error, 1 is right", points)
    first = next(sense for sense in ("belief", *found) if sense in found)
    one = found[first][horizons[-1]]
    _, shares = rank_histogram(one.draws, one.truth, exam.seed)
    curves[f"Rank of the truth among draws of {first}"] = Along(
        "draws below the truth", "share, flat is right", tuple((float(k), share) for k, share in enumerate(shares))
    )
    metrics |= {name: metrics[f"{first}_{name}"] for name in ("spread_skill", "crps_ratio", "deterministic")}
    metrics["miscalibration"] = abs(metrics["spread_skill"] - 1)
    return Answer(metrics | {"clips": float(len(clip.action))}, curves=curves)


def _fitting(exam: Exam, clip: Clip, context: int, horizon: int) -> int:
    """How many clips there is time for."""
    one = clip.rows(slice(0, 1))
    start = at(exam.model.watch(one.cut(0, context)), context)
    step = imagined_step(exam.model, start, n=4, horizon=1).flops
    return next((n for n in CLIPS if n * DRAWS * horizon * step <= FLOPS), CLIPS[-1])


CALIBRATION = Question(
    name="calibration",
    asks="Does it know how sure it may be?",
    headline="miscalibration",
    higher=False,
    unit="how far the spread of sampled futures over their error is from 1; 1: a model that is always sure",
    ask=ask,
    floor=1.0,
)
