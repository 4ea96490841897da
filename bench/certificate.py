"""Does L_latent ≤ Lip(h) · L_gen + ε hold while a model learns? Both sides on held-out clips, checkpoint by checkpoint.

    innerworld train glp --data data/paddle --out runs/glp train.save_every=100 train.keep=20
    innerworld train video --data data/paddle --out runs/video train.save_every=100 train.keep=20
    innerworld train rssm --data data/paddle --out runs/rssm model.latent=gaussian train.save_every=100 train.keep=20
    python bench/certificate.py runs/glp runs/video runs/rssm --plot certificate.svg

Any run of a family that decodes what it imagines and learnt from a store. What each column is, and what it proves:
`evaluate/certificate.py`. An RSSM with categorical latents works, too, but its h jumps and only secants count.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from innerworld import checkpoint
from innerworld.checkpoint.folder import home_of, step_of, steps
from innerworld.data import Clips, Store
from innerworld.errors import UserError
from innerworld.evaluate.certificate import MOMENTS, certificate
from innerworld.recipes.lesson import episodes, read
from innerworld.types import Clip
from innerworld.world import WorldModel

CLIPS, ACTIONS = 16, 8  # held-out clips, and actions in each
COLUMNS = (
    "latent",
    "generative",
    "lipschitz_secant",
    "lipschitz",
    "epsilon",
    "bound",
    "holds_share",
    "published",
    "exact",
)

Row = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of runs")
    parser.add_argument("--moments", type=int, default=MOMENTS, help="of the held-out clips")
    parser.add_argument("--clips", type=int, default=CLIPS, help="held out")
    parser.add_argument("--plot", type=Path, help="draw both sides along training, .svg or .png (needs matplotlib)")
    parser.add_argument("--out", type=Path, help="write all numbers there, as JSON")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = {str(run): follow(run, args.clips, args.moments) for run in args.runs}
    for name, rows in found.items():
        show(name, rows)
    if args.out:
        args.out.write_text(json.dumps(found, indent=2))
    if args.plot:
        plot({Path(name).name: rows for name, rows in found.items()}, args.plot)


def follow(run: Path, clips: int, moments: int) -> list[Row]:
    """The certificate of each checkpoint of a run, the oldest first."""
    clip = held_out(run, clips)
    rows = []
    for folder in reversed(steps(home_of(run))):
        model = checkpoint.load(folder, kind=WorldModel)
        rows.append({"step": float(step_of(folder))} | certificate(model, clip, moments))
    if not rows:
        raise UserError(f"{run} holds no checkpoints: give folders of runs")
    return rows


def held_out(run: Path, clips: int) -> Clip:
    """Clips of episodes that the run did not learn from."""
    lesson = read(run)
    store = Store.open(lesson.data)
    judged = episodes(lesson, store)[1]
    length = min(ACTIONS, int(store.lengths[judged].max()) // lesson.frame_skip)
    return Clips(store, judged, length, clips, frame_skip=lesson.frame_skip).batch(0)


def show(name: str, rows: list[Row]) -> None:
    print(f"\n{name}\n| step | {' | '.join(COLUMNS)} | corrected holds | published holds |")
    print(f"|--:|{'--:|' * len(COLUMNS)}---|---|")
    for row in rows:
        cells = [f"{row[name]:.4g}" for name in COLUMNS]
        verdicts = ["yes" if row[name] else "no" for name in ("holds", "published_holds")]
        print(f"| {row['step']:.0f} | {' | '.join([*cells, *verdicts])} |", flush=True)


def plot(found: dict[str, list[Row]], out: Path) -> None:
    """One panel for each run: the left side, both right sides, and the constant."""
    from matplotlib import pyplot

    pyplot.rcParams |= {"svg.fonttype": "none", "font.family": "DejaVu Sans", "svg.hashsalt": "innerworld"}
    size = (max(4.2, 3.1 * len(found)), 3.0)
    figure, axes = pyplot.subplots(1, len(found), figsize=size, layout="constrained", squeeze=False)
    curves = {
        "latent": ("L_latent", "#0072b2", "-"),
        "bound": ("Lip · L_gen + ε", "#009e73", "-"),
        "published": ("L_gen + ε", "#d55e00", "--"),
        "lipschitz": ("Lip", "#777777", ":"),
    }
    for axis, (name, rows) in zip(axes[0], found.items(), strict=True):
        at = [row["step"] for row in rows]
        for key, (label, colour, line) in curves.items():
            axis.plot(at, [row[key] for row in rows], line, color=colour, linewidth=1.2, label=label)
        axis.set(title=name, xlabel="training step", yscale="log")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
