"""How long do imagined films stay true? PSNR by frame, with and without stabilised context, of a taught `video` run.

    innerworld collect paddle --episodes 32 --max-steps 120 --seed 9 --out paddle_long
    python bench/drift.py runs/video paddle_long --out drift.png

Nothing is trained here: `context`, the level of noise at which a frame is remembered, is a setting of imagining. At 1
frames count as clean, as they seldom were in training; below, as slightly noisy, so that a frame's own errors are taken
for noise, which with `--renoise 1` is really added.

A run that learnt with noise on each frame knows pasts of all levels, and may be steady with any `context`. The other
side of that comparison is `--without`, a run that learnt clean pasts: `model.noise=history model.augment=0
model.context=1`. It is drawn at `context` 1.

Protocol of `evaluate/pictures.py`: five frames are seen, chance is drawn; the table tells means over windows of ten
frames, and two standard errors over clips; rows with a minus are differences within clips. Rows `near` are the PSNR to
the nearest of all true frames of these clips: a film that loses the truth but stays a picture of that world keeps it,
one that decays does not.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from innerworld.data import Clips, Store
from innerworld.evaluate.frames import imagined, look
from innerworld.evaluate.pictures import ROUNDING, drift, psnr
from innerworld.models import Video
from innerworld.recipes.stages import load_learner

SEEN = 4  # steps that are looked at
WINDOW = 10  # frames that a number of the table is the mean of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a trained video model")
    parser.add_argument("data", type=Path, help="a store of other episodes, long enough")
    parser.add_argument("--context", type=float, nargs="*", default=[1.0, 0.95, 0.9, 0.8], help="levels to compare")
    parser.add_argument("--renoise", type=float, default=0.0, help="share of that level's noise that is added")
    parser.add_argument("--without", type=Path, help="folder of a run that learnt with clean pasts")
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--clips", type=int, default=32)
    parser.add_argument("--out", type=Path, help="a picture of the curves")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = load(arguments.run)
    store, sensor = Store.open(arguments.data), model.spec.images()[0]
    clips = Clips(store, None, SEEN + arguments.frames, arguments.clips, 0, sensors=model.reads(store.spec))
    clip = clips.batch(0)
    true, last = clip.obs[sensor][:, SEEN + 1 :], clip.obs[sensor][:, SEEN]
    curves: dict[str, Tensor] = {}
    sides = [(f"context {level:g}", model, level, arguments.renoise) for level in arguments.context]
    if arguments.without:
        sides.append(("learnt with clean pasts", load(arguments.without), 1.0, 0.0))
    for name, of, level, renoise in sides:
        other = Video(of.settings.model_copy(update={"context": level, "renoise": renoise}), of.spec)
        other.load_state_dict(of.state_dict())
        seen = look(other.eval(), clip, sensor, SEEN)
        shown = imagined(other, seen.belief, clip.action[:, SEEN:], sensor)
        found = drift(shown, seen.redrawn[:, SEEN + 1 :], true, last)
        curves |= {name: found.psnr, f"{name}, near": nearest(shown, true)}
        curves |= {"last frame repeated": found.psnr_still, "the codec": found.psnr_codec}
    first, *rest = [name for name, *_ in sides]
    curves |= {f"{name} - {first}": curves[name] - curves[first] for name in rest}
    curves |= {f"{name} - {first}, near": curves[f"{name}, near"] - curves[f"{first}, near"] for name in rest}
    curves["mean picture"] = psnr(true.float().mean(dim=(0, 1)).round().to(torch.uint8).expand_as(true), true)
    table(curves)
    if arguments.out:
        plot(curves, arguments.out)


def load(run: Path) -> Video:
    model, _, _ = load_learner(run)
    if not isinstance(model, Video):
        raise SystemExit(f"{run} holds a {type(model).__name__}, not a Video")
    return model


def nearest(shown: Tensor, true: Tensor) -> Tensor:
    """PSNR of each of `clips frames y x c` to that of all true frames which it is nearest to."""
    a, b = ((of.float() / 255).flatten(2).flatten(0, 1) for of in (shown, true))
    error = torch.cdist(a, b).min(dim=1).values.square() / a.shape[1]
    return -10 * error.clamp_min(ROUNDING).log10().unflatten(0, shown.shape[:2])


def table(curves: dict[str, Tensor]) -> None:
    """Means of `clips frames` over clips and windows of frames, as Markdown."""
    ends = [end for end in (10, 30, 60, 100) if end <= next(iter(curves.values())).shape[1]]
    print(
        "|  | "
        + " | ".join(f"frames {end - WINDOW + 1} to {end}" for end in ends)
        + " |\n|---"
        + "|--:" * len(ends)
        + "|"
    )
    for name, values in curves.items():
        cells = []
        for end in ends:
            each = values[:, end - WINDOW : end].mean(dim=1)
            cells.append(f"{float(each.mean()):.2f} ± {2 * float(each.std()) / len(each) ** 0.5:.2f}")
        print(f"| {name} | " + " | ".join(cells) + " |")


def plot(curves: dict[str, Tensor], out: Path) -> None:
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(7, 3.5), layout="constrained")
    for name, values in curves.items():
        if " - " in name:
            continue
        style = "-" if name.startswith(("context", "learnt")) and not name.endswith("near") else ":"
        axis.plot(range(1, values.shape[1] + 1), values.mean(dim=0), style, label=name)
    axis.set(xlabel="imagined frame", ylabel="PSNR, dB")
    axis.legend(fontsize="small", ncols=2)
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main()
