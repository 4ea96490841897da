"""How well can the pictures of a store be told in tokens at all? PSNR of frames coded and drawn again, held out.

No model that predicts tokens draws better than its codec. First those that are found in closed form in one batch of 256
frames, PCA and the beginnings of the learned ones, then the runs that are named.

    innerworld collect paddle --episodes 300 --max-steps 60 --out paddle
    python bench/codec_floor.py paddle
    innerworld train fsq --preset tiny --data paddle --sensors pixels --out runs/fsq
    python bench/codec_floor.py paddle --runs runs/fsq
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import torch

from innerworld.data import Store
from innerworld.models.codec import Codec, CodecConfig
from innerworld.types import Clip

CLOSED = {
    "pca": [(8, 4), (8, 16), (8, 32), (4, 4), (4, 8), (16, 64)],
    "vq": [(8, 16), (8, 32), (4, 16)],
    "fsq": [(8, 4), (4, 4)],
    "mae": [(8, 16), (4, 8)],
}
"""Patch and width, of each kind."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a store")
    parser.add_argument("--sensor", default="pixels", help="the image")
    parser.add_argument("--runs", type=Path, nargs="*", default=[], help="runs of trained tokenizers")
    parser.add_argument("--frames", type=int, default=256, help="of the batch that the closed forms see")
    parser.add_argument("--test", type=int, default=1024, help="frames to be judged on, of other episodes")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(1)
    store = Store.open(arguments.data)
    spec = store.spec.only(arguments.sensor)
    order = torch.randperm(len(store), generator=torch.Generator().manual_seed(arguments.seed)).tolist()
    half = len(order) // 2
    seen = frames(store, arguments.sensor, order[:half], arguments.frames)
    held = frames(store, arguments.sensor, order[half:], arguments.test)
    still = held.obs[arguments.sensor][:, 0].float() / 255
    print(f"the mean picture: {-10 * math.log10(float((still - still.mean(dim=0)).square().mean())):.1f} dB")
    print("| tokenizer | patch | tokens | numbers or bits | CPU s | dB |\n|---|--:|--:|--:|--:|--:|")
    for kind, sizes in CLOSED.items():
        for patch, width in sizes:
            began = time.process_time()
            codec = Codec(CodecConfig.model_validate({"kind": kind, "patch": patch, "width": width}), spec).eval()
            codec.prepare(seen)
            show(kind, codec, held, f"{time.process_time() - began:.1f}")
    for run in arguments.runs:
        show(f"{run.name}, trained", Codec(CodecConfig(checkpoint=str(run)), spec).eval(), held, "")


def frames(store: Store, sensor: str, episodes: list[int], count: int) -> Clip:
    """Evenly spread over these episodes, as clips of one step that stands still."""
    pictures = [store.episode(i).obs[sensor][0] for i in episodes]
    together = torch.cat(pictures)
    chosen = together[torch.linspace(0, len(together) - 1, min(count, len(together))).long()]
    nothing = torch.zeros(len(chosen), 1)
    still = chosen[:, None].expand(-1, 2, *chosen.shape[1:])
    return Clip({sensor: still}, torch.zeros(len(chosen), 1, store.spec.action), nothing, nothing)


def show(name: str, codec: Codec, held: Clip, seconds: str) -> None:
    told = f"{codec.s * math.log2(codec.codes):.0f} bits" if codec.codes else f"{codec.s * codec.width}"
    (floor,) = codec.floor(held).values()
    print(f"| {name} | {codec.config.patch} | {codec.s} | {told} | {seconds} | {floor:.1f} |", flush=True)


if __name__ == "__main__":
    main()
