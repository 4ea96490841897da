"""A training step of V-JEPA 2 ViT-S on 16 frames of 112², innerworld beside transformers: CPU seconds of one thread.

Both sides have the same weights and the same masks, and do one step: the slow copy's tokens of all places, without
gradients; the encoder's tokens of what is seen; the predictor's guess of the rest; the loss; backward. Neither the
optimiser nor the moving average is timed. transformers' `VJEPA2Model` encodes everything and drops what is hidden
afterwards; ours encodes what is seen. The floor is what the step's matrix products would take at the speed of a large
one, timed here.

    pip install transformers && python bench/eyes_step.py --plot step.svg     # the plot needs matplotlib

ViT-S: 384 wide, 12 blocks, 6 heads, patches of 16 pixels, tubelets of 2 frames; 392 tokens. The predictor is 192 wide
with 6 blocks and 3 heads; `--predictor 384 12 12` is the one that is published for larger encoders. The sides take
turns, `--repeats` times each; the least is reported.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from innerworld.nn.patches import take
from innerworld.perception import pretrained

FRAMES, SIDE, PATCH, TUBELET = 16, 112, 16, 2
MOMENTS, PLACES = FRAMES // TUBELET, (SIDE // PATCH) ** 2
TOKENS = MOMENTS * PLACES
WIDTH, DEPTH, HEADS = 384, 12, 6
SWEEP = (48, 37, 25, 12, 5)  # places of 49 that are seen: 98, 76, 51, 24, 10 %; one at least is to be guessed

Step = Callable[[], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4, help="films in a step")
    parser.add_argument("--predictor", type=int, nargs=3, default=(192, 6, 3), metavar=("WIDTH", "DEPTH", "HEADS"))
    parser.add_argument("--repeats", type=int, default=3, help="steps timed on each side")
    parser.add_argument("--plot", type=Path, help="file for the sweep as SVG")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    warnings.filterwarnings("ignore")
    bench = Bench(args.batch, tuple(args.predictor), args.repeats)
    shape = " × ".join(map(str, args.predictor))
    print(f"float32, one thread, {args.batch} films, predictor {shape}, torch {torch.__version__}")
    print(f"a product of 2048² × 2048: {bench.speed / 1e9:.0f} GFLOP/s")
    print(f"tokens of the two sides differ by at most {bench.difference():.0e}\n")
    print("| what | innerworld, CPU s | transformers, CPU s | ratio | floor, CPU s | ratio of floors |")
    print("|---|--:|--:|--:|--:|--:|")
    bench.encoder()
    steps = [bench.step(places) for places in SWEEP]
    if args.plot:
        plot(steps, args.plot)


class Bench:
    """Both sides with the same weights, which transformers draws and our loader reads."""

    def __init__(self, batch: int, predictor: tuple[int, int, int], repeats: int) -> None:
        from transformers import VJEPA2Config, VJEPA2Model
        from transformers.utils import logging

        logging.disable_progress_bar()
        self.batch, self.repeats, self.predictor = batch, repeats, predictor
        width, depth, heads = predictor
        config = VJEPA2Config(
            crop_size=SIDE,
            patch_size=PATCH,
            frames_per_clip=FRAMES,
            hidden_size=WIDTH,
            num_hidden_layers=DEPTH,
            num_attention_heads=HEADS,
            mlp_ratio=4.0,
            pred_hidden_size=width,
            pred_num_hidden_layers=depth,
            pred_num_attention_heads=heads,
            pred_mlp_ratio=4.0,
            pred_num_mask_tokens=2,
        )
        self.theirs = VJEPA2Model(config)
        self.their_target = deepcopy(self.theirs).requires_grad_(False)
        with tempfile.TemporaryDirectory() as folder:
            self.theirs.save_pretrained(folder)
            eyes = pretrained(folder, frozen=False)
        assert eyes.predictor is not None
        self.vit, self.guess = eyes.vit.train().requires_grad_(True), eyes.predictor.train().requires_grad_(True)
        self.target = deepcopy(self.vit).requires_grad_(False)
        self.films = torch.randn(batch, FRAMES, 3, SIDE, SIDE)  # b t c y x, as transformers wants
        self.speed = _speed()

    def difference(self) -> float:
        with torch.no_grad():
            ours = self.target(self.films.transpose(1, 2))
            theirs = self.their_target(self.films, skip_predictor=True).last_hidden_state
        return (ours - theirs).abs().max().item()

    def encoder(self) -> None:
        """Tokens of all places, without gradients."""

        def ours() -> None:
            with torch.no_grad():
                self.target(self.films.transpose(1, 2))

        def theirs() -> None:
            with torch.no_grad():
                self.their_target(self.films, skip_predictor=True)

        self._row("encoder, nothing hidden, inference", ours, theirs, self._encode(TOKENS), self._encode(TOKENS))

    def step(self, places: int) -> tuple[float, float, float]:
        """A step that sees `places` of the places at every moment: share seen, CPU seconds of ours, of theirs."""
        order = torch.stack([torch.randperm(PLACES) for _ in range(self.batch)])
        seen, hidden = _through_time(order[:, :places]), _through_time(order[:, places:])
        n = seen.shape[1]
        guess = 3 * _forward(TOKENS, *self.predictor[:2])
        ours = self._encode(TOKENS) + 3 * self._encode(n) + self.batch * guess
        theirs = self._encode(TOKENS) + 3 * self._encode(TOKENS) + self.batch * guess
        name = f"step, {n / TOKENS:.0%} seen"
        return n / TOKENS, *self._row(
            name, lambda: self._ours(seen, hidden), lambda: self._theirs(seen, hidden), ours, theirs
        )

    def _ours(self, seen: Tensor, hidden: Tensor) -> None:
        x = self.films.transpose(1, 2)
        with torch.no_grad():
            truth = F.layer_norm(self.target(x), (WIDTH,))
        guess = self.guess(self.vit(x, seen), seen, hidden, self.vit.grid(x), token=1)
        _learn(guess, take(truth, hidden), self.vit, self.guess)

    def _theirs(self, seen: Tensor, hidden: Tensor) -> None:
        with torch.no_grad():
            truth = F.layer_norm(self.their_target(self.films, skip_predictor=True).last_hidden_state, (WIDTH,))
        found = self.theirs(self.films, context_mask=[seen], target_mask=[hidden])
        _learn(found.predictor_output.last_hidden_state, take(truth, hidden), self.theirs)

    def _encode(self, n: int) -> float:
        return self.batch * (_forward(n, WIDTH, DEPTH) + 2 * n * WIDTH * 3 * TUBELET * PATCH**2)

    def _row(self, name: str, ours: Step, theirs: Step, our_flops: float, their_flops: float) -> tuple[float, float]:
        mine, peer = _least(ours, theirs, repeats=self.repeats)
        floor = f"{our_flops / self.speed:.2f}; {their_flops / self.speed:.2f}"
        print(
            f"| {name} | {mine:.2f} | {peer:.2f} | {peer / mine:.2f} | {floor} | {their_flops / our_flops:.2f} |",
            flush=True,
        )
        return mine, peer


def plot(steps: list[tuple[float, float, float]], file: Path) -> None:
    """The sweep: share seen, CPU seconds of ours, of theirs."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 3.2), layout="constrained")
    share = [100 * step[0] for step in steps]
    for i, (name, colour) in enumerate((("innerworld", "#0072b2"), ("transformers", "#d55e00")), start=1):
        axes.plot(share, [step[i] for step in steps], marker="o", color=colour, label=name)
    axes.set(xlabel="tokens seen, %", ylabel="CPU s a step", ylim=(0, None), title="Training step of V-JEPA 2 ViT-S")
    axes.legend()
    figure.savefig(file)


def _learn(guess: Tensor, truth: Tensor, *learners: torch.nn.Module) -> None:
    for learner in learners:
        learner.zero_grad()
    (guess - truth).abs().mean().backward()


def _through_time(places: Tensor) -> Tensor:
    """Places `b n` of a frame at every moment: `b (t n)`, in rising order."""
    at = torch.arange(MOMENTS)[:, None] * PLACES + places[:, None]  # b t n
    return at.flatten(1).sort(dim=1).values


def _forward(n: int, width: int, depth: int) -> float:
    """Blocks of 12 width² weights, two operations for each weight and token, and attention's two products."""
    return 24 * depth * width**2 * n + 4 * depth * width * n**2


def _least(*sides: Step, repeats: int) -> list[float]:
    for side in sides:
        side()
    times: list[list[float]] = [[] for _ in sides]
    for _ in range(repeats):
        for side, took in zip(sides, times, strict=True):
            began = time.process_time()
            side()
            took.append(time.process_time() - began)
    return [min(took) for took in times]


def _speed() -> float:
    """Operations a second of a large float32 product on one thread."""
    a = torch.randn(2048, 2048)
    return 2 * 2048**3 / _least(lambda: a @ a, repeats=5)[0]


if __name__ == "__main__":
    main()
