"""Are the latent actions of a taught `genie` run the real ones? Codes in use, and real actions told from codes.

    innerworld collect paddle --size 32 --policy uniform --episodes 64 --max-steps 60 --seed 9 --out paddle_other
    python bench/latent_actions.py runs/genie paddle_other

The store holds other episodes than the run learnt from. The table has a row for each code: how often the labelled
transitions, those that the model was told of, show it with each real action. With `--films`: PSNR of imagined frames
after five seen ones beside the last frame repeated, and ΔPSNR at 4 steps; by real actions through the labels, and by
inferred latent actions, which is Genie's protocol; most likely words, and drawn ones.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from innerworld.data import Clips, Store
from innerworld.evaluate.latent_actions import latent_actions
from innerworld.evaluate.pictures import psnr
from innerworld.models import Genie
from innerworld.nn.sensors import to_uint8
from innerworld.recipes.stages import load_learner
from innerworld.types import Clip, each, random_actions
from innerworld.world import at

SEEN, AHEAD = 4, 4  # steps that are looked at, and imagined


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a trained genie")
    parser.add_argument("data", type=Path, help="a store of other episodes")
    parser.add_argument("--clips", type=int, default=128)
    parser.add_argument("--length", type=int, default=16, help="actions of a clip")
    parser.add_argument("--films", type=int, default=0, help="clips to imagine; 0: none")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model, _, _ = load_learner(arguments.run)
    if not isinstance(model, Genie):
        raise SystemExit(f"{arguments.run} holds a {type(model).__name__}, not a Genie")
    store = Store.open(arguments.data)
    clip = Clips(store, None, arguments.length, arguments.clips, 0, sensors=model.reads(store.spec)).batch(0)
    for name, value in latent_actions(model, clip).items():
        print(f"{name:28} {value:.3f}")
    if model.spec.action:
        print("code: real actions", *(f"{i}: {row}" for i, row in enumerate(model.meaning().table.tolist())), sep="\n")
    if arguments.films:
        some = clip.cut(0, SEEN + AHEAD).rows(slice(arguments.films))
        judge("real actions", model, some)
        judge("inferred codes", model.played_by_codes(), model.told_by_codes(some))


@torch.no_grad()
def judge(name: str, model: Genie, clip: Clip) -> None:
    frames = clip.obs[model.spec.images()[0]]
    true, last = frames[:, SEEN + 1 :], frames[:, SEEN]
    wrong = random_actions(model.spec, (len(true), AHEAD), torch.Generator().manual_seed(1))
    for how, seed in (("likely", None), ("drawn", 0)):
        shown, other = film(model, clip, clip.action[:, SEEN:], seed), film(model, clip, wrong, seed)
        row = [f"PSNR {psnr(shown[:, i], true[:, i]).mean():.2f} at {i + 1}" for i in (0, AHEAD - 1)]
        row += [f"still {psnr(last, true[:, i]).mean():.2f} at {i + 1}" for i in (0, AHEAD - 1)]
        gain = psnr(shown[:, -1], true[:, -1]) - psnr(other[:, -1], true[:, -1])
        print(name, how, *row, f"ΔPSNR {gain.mean():.2f}", sep=", ")


def film(model: Genie, clip: Clip, actions: Tensor, seed: int | None) -> Tensor:
    """Imagined frames `b h y x c`."""
    start = at(model.watch(clip.cut(0, SEEN)), SEEN)
    roll = model.roll(each(lambda value: value[:, None], start), AHEAD)
    rng = None if seed is None else torch.Generator().manual_seed(seed)
    frames = [model.decode(roll(action, rng))[model.spec.images()[0]] for action in actions.unbind(dim=1)]
    return to_uint8(torch.stack(frames, dim=1))


if __name__ == "__main__":
    main()
