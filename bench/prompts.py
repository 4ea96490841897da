"""Does a film that begins with a sentence alone show what the sentence says? A `video` run that was told prompts.

    innerworld collect minigrid:BabyAI-GoToObj-v0,whole=true,mission=64 --size 32 --policy uniform --episodes 3000 \\
        --max-steps 12 --seed 0 --out data/rooms
    innerworld collect minigrid:BabyAI-GoToObj-v0,whole=true,mission=64 --size 32 --policy uniform --episodes 600 \\
        --max-steps 12 --seed 1 --out data/other_rooms
    innerworld train video --preset small --data data/rooms --sensors pixels mission --out runs/prompted \\
        --batch 64 --length 1 model.prompt=mission model.codec.patch=4 model.action_dropout=0.1 train.steps=1500 \\
        train.lr=1e-3 train.warmup=30 train.final_lr_fraction=0.05 train.betas=[0.9,0.99]
    python bench/prompts.py runs/prompted data/rooms data/other_rooms --steps 16 --guidance 2 --picture prompts.png

Each room holds one thing of six colours and three kinds, and the sentence says which. A small net learns on the first
frames of DATA to tell the sentence from the picture. It then reads OTHER rooms, those rooms as the codec draws them,
and frames drawn out of nothing for the same sentences: at the beginning, and after random actions. Beside that: how
often frames drawn for another sentence are read as this one (chance), and how different frames of one sentence are.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from innerworld import checkpoint
from innerworld.data import Store
from innerworld.evaluate.frechet import shrunk
from innerworld.models import Video
from innerworld.nn.sensors import to_uint8
from innerworld.report.image import enlarge, png
from innerworld.types import random_actions

STEPS, BATCH, ROWS = 600, 64, 256
ON = 8  # actions after which it is asked again
SHOWN = 12  # frames of a sentence in the picture


class Reader(nn.Module):
    """Pictures `n c y x` in [0, 1] → scores of the sentences; where in the picture a thing lies does not matter."""

    def __init__(self, sentences: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 32, 4, stride=2, padding=1), nn.SiLU(), nn.Conv2d(32, 64, 3, padding=1), nn.SiLU(),
            nn.Conv2d(64, 128, 3, padding=1), nn.SiLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(),
            nn.Linear(128, sentences),
        )  # fmt: skip

    def forward(self, pictures: Tensor) -> Tensor:
        return self.layers(pictures - 0.5)

    @torch.no_grad()
    def right(self, frames: Tensor, which: Tensor) -> str:
        """The share of frames `n y x c` that are read as their sentence, with two standard errors."""
        found = torch.cat([self(shrunk(some)).argmax(1) for some in frames.split(ROWS)]) == which
        share = found.float().mean()
        return f"{share:.3f} ± {2 * (share * (1 - share) / len(found)).sqrt():.3f} of {len(found)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a video model that is told prompts")
    parser.add_argument("data", type=Path, help="the store that it learnt from")
    parser.add_argument("other", type=Path, help="other episodes")
    parser.add_argument("--steps", type=int, default=[16], nargs="+", help="of denoising")
    parser.add_argument("--guidance", type=float, default=[2.0], nargs="+", help="for each number of steps")
    parser.add_argument("--films", type=int, default=600, help="films, at most as many as OTHER has episodes")
    parser.add_argument("--picture", type=Path, help="draw frames of six sentences, .png")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = checkpoint.load(args.run, kind=Video).eval()
    frames, prompts = firsts(args.data, model)
    sentences = torch.unique(prompts, dim=0)
    reader = taught(frames, named(prompts, sentences), len(sentences))
    frames, prompts = (some[: args.films] for some in firsts(args.other, model))
    which = named(prompts, sentences)
    image = model.codec.images[0]
    with torch.no_grad():
        codec = to_uint8(model.codec.show(model.codec.look({image: frames}))[image])
    told = {"real first frames of other episodes": (frames, which), "the same, drawn by the codec": (codec, which)}
    for steps in args.steps:
        for guidance in args.guidance:
            rng = Generator().manual_seed(0)
            other = Video(model.settings.model_copy(update={"steps": steps, "guidance": guidance}), model.spec)
            other.load_state_dict(model.state_dict())
            drawn, later = films(other.eval(), prompts, rng)
            how = f"out of nothing, {steps} steps, guidance {guidance:g}"
            told[how] = (drawn, which)
            told[f"{how}, after {ON} random actions"] = (later, which)
    another = which[torch.randperm(len(which), generator=rng)]
    told["read as another frame's sentence"] = (drawn, another)
    print(f"{len(sentences)} sentences\n| frames | read as their sentence |\n|---|--:|")
    for name, (shown, wanted) in told.items():
        print(f"| {name} | {reader.right(shown, wanted)} |")
    spread, true = apart(drawn, which), apart(frames, which)
    print(f"frames of one sentence differ by {spread:.3f} (root mean square), real ones by {true:.3f}")
    if args.picture:
        rows = [torch.cat(list(drawn[which == i][:SHOWN]), dim=1) for i in range(0, len(sentences), 3)]
        args.picture.write_bytes(png(enlarge(torch.cat(rows).numpy(), 3)))


@torch.no_grad()
def films(model: Video, prompts: Tensor, rng: Generator) -> tuple[Tensor, Tensor]:
    """First frames for prompts `n d`, and those after random actions: `n y x c` uint8 each."""
    belief = begun = model.begin(prompts, rng)
    for action in random_actions(model.spec, (len(prompts), ON), rng).unbind(1):
        belief = model.predict(belief, action, rng)
    first, last = (to_uint8(model.decode(some)[model.codec.images[0]]) for some in (begun, belief))
    return first, last


def firsts(where: Path, model: Video) -> tuple[Tensor, Tensor]:
    """The first frame of every episode, `n y x c` uint8, and its prompt, `n d`."""
    store = Store.open(where)
    found = [store.episode(i).obs for i in range(len(store))]
    image, prompt = (
        torch.stack([obs[name][0, 0] for obs in found]) for name in (model.codec.images[0], model.settings.prompt)
    )
    return image, prompt


def named(prompts: Tensor, sentences: Tensor) -> Tensor:
    """Which of the sentences each prompt is. Raises `SystemExit` for one that is none of them."""
    same = (prompts[:, None] - sentences).abs().amax(-1) < 1e-6
    if not bool(same.any(1).all()):
        raise SystemExit("a sentence that the model was never told: collect both stores from the same world")
    return same.float().argmax(1)


def taught(frames: Tensor, which: Tensor, sentences: int) -> Reader:
    reader = Reader(sentences)
    optimiser = torch.optim.AdamW(reader.parameters(), lr=2e-3)
    for _ in range(STEPS):
        rows = torch.randint(len(frames), (BATCH,))
        loss = F.cross_entropy(reader(shrunk(frames[rows])), which[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return reader.eval()


def apart(frames: Tensor, which: Tensor) -> Tensor:
    """How far frames of one sentence are from each other, in [0, 1]: 0 where all are the same."""
    pictures = frames.float() / 255
    spread = [pictures[which == i].var(0).mean() for i in which.unique()]
    return (2 * torch.stack(spread).mean()).sqrt()


if __name__ == "__main__":
    main()
