"""What does an imagined step of attention cost? Our cache beside STORM's and TransDreamer's, over the same weights.

All imagine from the same starts, each with a full context of past tokens, and are checked to give the same outputs
before any is timed:

- ours: keys and values are computed once and written into buffers (`AbsoluteTransformer.roll`);
- STORM's cache holds the inputs of each layer, grows by `torch.cat` and projects all of it anew at every step
  (`transformer_model.py`, class `StochasticTransformerKVCache`, 2023);
- TransDreamer keeps no cache and runs the whole transformer over all tokens at every step (`imagine_ahead`, 2022).

Beside them, not the same function: rotary positions, whose window slides, so that all starts of a clip share their
past's keys and no context is read again. Tokens are given; in a world model heads and policy come on top.

    python bench/attention_cache.py
    python bench/attention_cache.py --dim 512 --heads 8 --starts 256 --horizons 15
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional as F

from innerworld.nn.backbone.absolute import AbsoluteTransformer
from innerworld.nn.backbone.attention import AttentionBlock, AttentionLayer
from innerworld.nn.backbone.layer import Layer, Memory, Stack
from innerworld.types import each

CLIP = 8  # starts of one clip
HEADER = (
    f"{'starts':>6} {'steps':>5}  {'who':<22} {'CPU s':>8} {'wall s':>8} {'ms/step':>8} {'by ours':>8} {'kept, M':>8}"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dim", type=int, default=64, help="width; the MLP is twice as wide, as in STORM")
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--context", type=int, default=16, help="tokens read when acting; one less are remembered")
    parser.add_argument("--window", type=int, default=64, help="of the rotary layers")
    parser.add_argument("--starts", type=int, nargs="+", default=(16, 64), help=f"multiples of {CLIP}")
    parser.add_argument("--horizons", type=int, nargs="+", default=(15, 64, 256))
    parser.add_argument("--repeats", type=int, default=1, help="timed runs, after one that is compared; their median")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    past = args.context - 1
    layers = [AttentionLayer(args.dim, args.heads, 2 * args.dim, args.window) for _ in range(args.depth)]
    absolute = AbsoluteTransformer(
        args.dim, args.depth, args.heads, 2 * args.dim, past + max(args.horizons), args.context
    ).eval()
    rotary = Stack(layers).eval()
    print(HEADER)
    for starts in args.starts:
        for horizon in args.horizons:
            clip = torch.randn(starts // CLIP, past + CLIP - 1, args.dim)
            x = torch.randn(starts // CLIP, CLIP, horizon, args.dim)
            _compare(absolute, rotary, clip, x, past, args.repeats)


@torch.no_grad()
def _compare(absolute: AbsoluteTransformer, rotary: Layer, clip: Tensor, x: Tensor, past: int, repeats: int) -> None:
    """Clips `b t d`, of which the last times are starts, and the tokens `b k h d` that are imagined from them."""
    b, k, horizon, dim = x.shape
    depth = len(absolute.blocks)
    full, shared = (each(lambda value: value[:, -k:], layer.trace(clip)[1]) for layer in (absolute, rotary))
    context = clip.unfold(1, past, 1).transpose(2, 3).flatten(0, 1)  # (b k) past d
    tokens = x.flatten(0, 1)
    inputs = b * k * (past + horizon) * dim
    ways: dict[str, tuple[Callable[[], Tensor], int]] = {
        "ours": (lambda: _rolled(absolute, full, x), absolute.held(b, k, horizon, shared=False)),
        "STORM's cache": (lambda: storms_cache(absolute, context, tokens), depth * inputs),
        "TransDreamer's, anew": (lambda: anew(absolute, context, tokens), inputs),
        "ours, rotary": (lambda: _rolled(rotary, shared, x), rotary.held(b, k, horizon, shared=True)),
    }
    expected, ours = ways["ours"][0](), 0.0
    for who, (run, kept) in ways.items():
        out = run()
        if who != "ours, rotary":
            torch.testing.assert_close(out, expected, rtol=0, atol=1e-4)
        cpu, wall = _seconds(run, repeats)
        ours = ours or cpu
        print(
            f"{b * k:>6} {horizon:>5}  {who:<22} {cpu:>8.3f} {wall:>8.3f} {1000 * cpu / horizon:>8.2f}"
            f" {cpu / ours:>8.2f} {kept / 1e6:>8.3f}",
            flush=True,
        )


def _rolled(layer: Layer, memory: Memory, x: Tensor) -> Tensor:
    """As our imagination does: `(b k) h d`."""
    roll = layer.roll(memory, x.shape[2])
    return torch.stack([roll(x[:, :, h]) for h in range(x.shape[2])], dim=2).flatten(0, 1)


def storms_cache(model: AbsoluteTransformer, context: Tensor, x: Tensor) -> Tensor:
    """As STORM imagines: the context token by token, then tokens `n h d`, each time over the layers' whole inputs."""
    tokens = torch.cat([context, x], dim=1)
    caches = [tokens[:, :0] for _ in model.blocks]
    outs = []
    for t in range(tokens.shape[1]):
        token = model.norm(tokens[:, t : t + 1] + model.table(torch.tensor([t])))
        for i, block in enumerate(model.blocks):
            assert isinstance(block, AttentionBlock)
            caches[i] = torch.cat([caches[i], token], dim=1)
            to_q, to_k, to_v = block.qkv.weight.chunk(3)
            projected = (F.linear(token, to_q), F.linear(caches[i], to_k), F.linear(caches[i], to_v))
            q, k, v = (of.unflatten(-1, (block.heads, -1)).transpose(1, 2) for of in projected)
            token = block.finish(token, F.scaled_dot_product_attention(q, k, v), 0.0)
        outs.append(token)
    return torch.cat(outs[context.shape[1] :], dim=1)


def anew(model: AbsoluteTransformer, context: Tensor, x: Tensor) -> Tensor:
    """As TransDreamer imagines: the whole transformer over all tokens so far, for each of `n h d`."""
    tokens, past = torch.cat([context, x], dim=1), context.shape[1]
    return torch.stack([model(tokens[:, : past + h + 1])[:, -1] for h in range(x.shape[1])], dim=1)


def _seconds(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Of the CPU and of the clock."""
    took = []
    for _ in range(repeats):
        began = time.process_time(), time.perf_counter()
        work()
        took.append((time.process_time() - began[0], time.perf_counter() - began[1]))
    return median(cpu for cpu, _ in took), median(wall for _, wall in took)


if __name__ == "__main__":
    main()
