"""What models draw, as a section of a report: how near it is to the truth, whether it follows actions, and films."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from innerworld.data import Store
from innerworld.evaluate.bootstrap import with_interval
from innerworld.evaluate.generation import ACTED, STEPS, Drawings, judge_frames
from innerworld.evaluate.inverse import InverseConfig
from innerworld.recipes.lesson import Lesson, actions, episodes
from innerworld.recipes.stages import Outcome, asked_of_all
from innerworld.report import Chart, Curve, Facts, Movie, Section, Table
from innerworld.world import WorldModel

DRAWN = (
    "Held-out episodes: the model looks for a few frames, closes its eyes and draws what it imagines. Chance is drawn, "
    "as when one plays. What a picture loses is parted in two: the codec's floor, which is what the model loses of a "
    "frame that it has just seen, and the drift away from that.\n\n"
    "An inverse model, taught on real frames alone, reads actions back off imagined ones. Random actions tell more "
    "than those of the episode: habits of who explored may give the latter away. Protocols and limits: "
    "`docs/evaluating.md`."
)
BRACKETS = "In brackets: 95 % bootstrap interval over clips."
BY_STEP = {
    "psnr": "PSNR, dB",
    "psnr_still": "of the last frame repeated",
    "psnr_to_codec": "against the codec, dB",
    "ssim": "SSIM",
    "ssim_still": "of the last frame repeated",
}
MEASURES = (
    (f"delta_psnr_{ACTED}", f"ΔPSNR at step {ACTED}: true against random actions, dB"),
    (f"shuffled_picture_ratio_{ACTED}", f"error with another clip's actions, step {ACTED}, 1: the same"),
    ("shuffled_loss_ratio", "loss with another clip's actions, 1: the same"),
    ("readback", "actions read back, the episode's"),
    ("readback_random", "actions read back, random ones"),
    ("readback_codec", "read off the codec's drawings of real frames"),
    ("readback_real", "read off real frames"),
    ("readback_chance", "guessing the commonest action"),
    ("readback_r2", "actions read back, the episode's, R²"),
    ("readback_random_r2", "actions read back, random ones, R²"),
    ("readback_codec_r2", "read off the codec's drawings of real frames, R²"),
    ("readback_real_r2", "read off real frames, R²"),
    *(
        (f"frechet_{net}{whose}", f"Fréchet distance ({title}){of}")
        for net, title in (("random_conv", "random convolutions"), ("inverse", "inverse model"))
        for whose, of in (("", ""), ("_codec", ", the codec's"), ("_still", ", last frame repeated"))
    ),
    ("turn_error", "there and back: error at the turn, 1: it never left"),
    ("return_error", "there and back: error at the end, 1: it never came back"),
    ("return_error_codec", "there and back: the codec's floor"),
    ("frames_per_s", "frames per second, one stream"),
)


def draw(model: WorldModel, taught: Lesson, store: Store, seed: int = 0) -> Drawings | None:
    """Judge what a taught model draws of held-out episodes; None for one that draws no pictures of the store.

    The inverse model is not trained for more steps than the model was. Raises `UserError` for episodes without a step.
    """
    sensor = next((name for name in model.spec.images() if name in store.spec.obs), None)
    if sensor is None or not model.card.decodes:
        return None
    learn, held_out = episodes(taught, store)
    reader = InverseConfig(steps=min(InverseConfig().steps, max(1, taught.train.steps)))
    return judge_frames(model, store, learn, held_out, sensor, actions(taught), taught.frame_skip, seed, reader)


def draw_all(outcome: Outcome, lessons: Mapping[str, Lesson], store: Store, seed: int, quiet: bool) -> None:
    """Do so for all models of a run, whose `drawings` the outcome then holds."""
    ask = lambda model, taught: draw(model, taught, store, seed)
    outcome.drawings |= asked_of_all(outcome.models, lessons, ask, "look at what is drawn", quiet)


def drawn_sections(found: Mapping[str, Drawings]) -> list[Section]:
    """One section for all models that draw; none where nobody does."""
    if not found:
        return []
    charts = [chart for name, drawn in found.items() for chart in _charts(name, drawn)]
    films = [
        Movie(f"{name}: {len(panels[0][1]) - 1} steps with eyes shut", panels)
        for name, drawn in found.items()
        for panels in drawn.films
    ]
    tables = [*(_by_step(name, drawn) for name, drawn in found.items()), _table(found)]
    return [Section("What it draws", DRAWN, [*charts, *films, *tables, _protocol(found)])]


def _charts(name: str, drawn: Drawings) -> list[Chart]:
    drift = drawn.drift
    curves = [
        _along("imagined", drift.psnr),
        _along("last frame repeated", drift.psnr_still),
        _along("the codec's floor", drift.psnr_codec),
        _along("imagined, against the codec", drift.psnr_to_codec),
    ]
    note = "Higher is nearer to the truth; 58.9 dB is exact. Bands: 95 % bootstrap interval over clips."
    charts = [Chart(f"{name}: nearness to the truth", "steps imagined", "PSNR, dB", curves, note=note)]
    if drawn.read:
        steps = list(range(1, len(next(iter(drawn.read.values()))) + 1))
        told = {key: label for key, label in MEASURES if key in drawn.read}
        chance = drawn.metrics.get("readback_chance")
        curves = [Curve(told[key].replace("actions read back", "imagined"), steps, y) for key, y in drawn.read.items()]
        y_label = "share read right" if chance is not None else "R²"
        line_name = "commonest action"
        charts.append(
            Chart(f"{name}: actions read back", "steps imagined", y_label, curves, line=chance, line_name=line_name)
        )
    return charts


def _along(name: str, values: Tensor) -> Curve:
    """Means over clips of `b h`."""
    found = [with_interval("y", column) for column in values.unbind(dim=1)]
    y, low, high = ([one[key] for one in found] for key in ("y", "y_low", "y_high"))
    return Curve(name, list(range(1, len(y) + 1)), y, low, high)


def _by_step(name: str, drawn: Drawings) -> Table:
    known = drawn.metrics
    steps = [step for step in STEPS if f"psnr_{step}" in known]
    rows = [[str(step), *(_number(known, f"{key}_{step}") for key in BY_STEP)] for step in steps]
    floor = f"The codec's floor is {_number(known, 'psnr_codec')} dB. {BRACKETS}"
    return Table(f"{name}: at some steps", ["steps imagined", *BY_STEP.values()], rows, floor)


def _table(found: Mapping[str, Drawings]) -> Table:
    rows = [
        [label, *(_number(drawn.metrics, key) for drawn in found.values())]
        for key, label in MEASURES
        if any(key in drawn.metrics for drawn in found.values())
    ]
    return Table("Actions, likeness, return and speed", ["measure", *found], rows, BRACKETS)


def _number(metrics: Mapping[str, float], key: str) -> str:
    if key not in metrics:
        return "-"
    low, high = (metrics.get(f"{key}_{end}") for end in ("low", "high"))
    interval = "" if low is None or high is None else f" [{low:.3g}, {high:.3g}]"
    return f"{metrics[key]:.3g}{interval}"


def _protocol(found: Mapping[str, Drawings]) -> Facts:
    rows = []
    for name, drawn in found.items():
        rows += [(f"{name}: {key}", value) for key, value in drawn.protocol.items()]
        rows += [(f"{name}: {key} was not measured", reason) for key, reason in drawn.untried.items()]
    return Facts(rows)
