"""Mamba-2 at DRAMA's sizes, innerworld beside transformers' torch path: CPU and wall milliseconds on one thread.

Two layers of 512 numbers a token, 16 heads of 64, a state of 16, a convolution of 4; float32, the same weights on both
sides, and what comes out is compared before anything is timed.

    python bench/mamba2_scan.py

Once forward and backward over `--times` tokens, `--tokens` tokens in all. `floor` is the same with nothing between the
two projections of each layer, by torch's own products: nobody who multiplies so needs less. Ours go by oneDNN on AMD's
CPUs with AVX-512 (`nn/linear.py`), twice as fast; with `--own-products` by torch's own, too: then what is gained is
gained between the projections. The peer runs with each of its chunk sizes `--peer-chunks` (256 is its
default and DRAMA's, which pads shorter clips) and its best counts. Once a step of imagination for `--rollouts` rollouts
without gradients, ours by `roll`, the peer's with its cache, whose states are written in place, too. The sides take
turns, `--repeats` times each, and of each the least counts.

The peer needs `pip install transformers`; without it only our side runs.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from innerworld.nn import linear
from innerworld.nn.backbone.layer import Stack
from innerworld.nn.backbone.mamba2 import Mamba2

DIM, LAYERS = 512, 2
Times = dict[str, tuple[float, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, nargs="+", default=[64, 128, 256, 512], help="tokens of a clip")
    parser.add_argument("--tokens", type=int, default=1024, help="of all clips of a batch together")
    parser.add_argument("--peer-chunks", type=int, nargs="+", default=[32, 64, 256], help="its chunk sizes")
    parser.add_argument("--rollouts", type=int, nargs="+", default=[256, 1024], help="imagined at once; none: 0")
    parser.add_argument("--repeats", type=int, default=7, help="of which the least counts")
    parser.add_argument("--own-products", action="store_true", help="torch's own products for us, too")
    args = parser.parse_args()
    if args.own_products:
        linear.WORTH = linear.WORTH_GRAPH = sys.maxsize
    torch.manual_seed(0)
    torch.set_num_threads(1)
    layers = [Mamba2(DIM, Mamba2.Config(), LAYERS) for _ in range(LAYERS)]
    peers = {f"transformers {chunk}": peer for chunk in args.peer_chunks if (peer := peer_like(layers, chunk))}
    for t in args.times:
        b = max(args.tokens // t, 1)
        print(f"forward and backward, {b} × {t} tokens", flush=True)
        show(least(training(layers, peers, torch.randn(b, t, DIM)), args.repeats))
    for rollouts in filter(None, args.rollouts):
        print(f"a step of {rollouts} rollouts", flush=True)
        show(least(stepping(layers, peers, torch.randn(rollouts, 8, DIM)), args.repeats))


def training(layers: list[Mamba2], peers: dict[str, Any], x: Tensor) -> dict[str, Callable[[], object]]:
    ours = Stack(layers)
    x.requires_grad_()
    upward = torch.randn_like(x)
    with torch.no_grad():
        for name, peer in peers.items():
            apart = (peer(inputs_embeds=x, use_cache=False).last_hidden_state - peer.norm_f(ours(x))).abs().max()
            print(f"  {name}: at most {apart:.1e} from ours", flush=True)
            assert apart < 1e-4

    work: dict[str, Callable[[], object]] = {
        "floor": lambda: projections(layers, x).backward(upward),
        "innerworld": lambda: ours(x).backward(upward),
    }
    for name, peer in peers.items():
        run = lambda peer=peer: peer(inputs_embeds=x, use_cache=False).last_hidden_state.backward(upward)
        work[name] = run
    return work


def stepping(layers: list[Mamba2], peers: dict[str, Any], x: Tensor) -> dict[str, Callable[[], object]]:
    """From the memory of a few tokens on, which every side has made itself."""
    ours, step = Stack(layers), torch.no_grad()
    with torch.no_grad():
        _, memory = ours.trace(x)
        roll = ours.roll({name: value[:, -1:] for name, value in memory.items()}, 10**9)
    token = torch.randn(len(x), 1, DIM)

    work: dict[str, Callable[[], object]] = {
        "floor": step(lambda: projections(layers, token)),
        "innerworld": step(lambda: roll(token)),
    }
    for name, peer in list(peers.items())[:1]:  # a step has no chunks
        with torch.no_grad():
            cache = peer(inputs_embeds=x, use_cache=True).cache_params
            twin = ours.roll({name: value[:, -1:] for name, value in memory.items()}, 10**9)
            run = lambda peer=peer, cache=cache: peer(inputs_embeds=token, use_cache=True, cache_params=cache)
            apart = (run().last_hidden_state - peer.norm_f(twin(token))).abs().max()
        print(f"  {name}: at most {apart:.1e} from ours", flush=True)
        assert apart < 1e-4
        work[name] = step(run)
    return work


def projections(layers: list[Mamba2], x: Tensor) -> Tensor:
    for layer in layers:
        x = F.linear(F.linear(x, layer.into.weight)[..., : layer.out.in_features], layer.out.weight)
    return x


def least(work: dict[str, Callable[[], object]], repeats: int) -> Times:
    """CPU and wall seconds, the sides in turn; the first round is not counted."""
    found: Times = {}
    for i in range(repeats + 1):
        for name, run in work.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            if i:
                before = found.get(name, (cpu, wall))
                found[name] = min(before[0], cpu), min(before[1], wall)
    return found


def show(found: Times) -> None:
    for name, (cpu, wall) in found.items():
        print(f"  {name:18} {1e3 * cpu:8.1f} ms CPU {1e3 * wall:8.1f} ms", flush=True)
    peers = [seconds for name, seconds in found.items() if name.startswith("transformers")]
    if peers:
        cpu, wall = (min(p[i] for p in peers) / found["innerworld"][i] for i in (0, 1))
        print(f"  {cpu:.2f} × fewer CPU seconds than its best, {wall:.2f} × less time", flush=True)


def peer_like(layers: list[Mamba2], chunk: int) -> Any:
    """transformers' model with our weights; nothing where it is not installed."""
    try:
        from transformers import Mamba2Config, Mamba2Model  # pyright: ignore[reportMissingImports]
    except ImportError:
        print("transformers is not installed: only our side runs")
        return None
    first = layers[0]
    config = Mamba2Config(
        vocab_size=3,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        hidden_size=DIM,
        num_hidden_layers=LAYERS,
        num_heads=first.heads,
        head_dim=first.config.head,
        state_size=first.config.state,
        n_groups=first.config.groups,
        expand=first.config.expand,
        conv_kernel=first.config.width,
        chunk_size=chunk,
        layer_norm_epsilon=1e-5,
        use_bias=False,
    )
    peer = Mamba2Model(config)
    for block, layer in zip(peer.layers, layers, strict=True):
        block.load_state_dict(peer_weights(layer))
    return peer


def peer_weights(layer: Mamba2) -> dict[str, Tensor]:
    """A layer of ours by the names of transformers (and of mamba_ssm)."""
    names = {"in_proj": "into", "out_proj": "out", "norm": "gated_norm"}
    found = {f"mixer.{theirs}.weight": layer.get_parameter(f"{ours}.weight") for theirs, ours in names.items()}
    found |= {f"mixer.{name}": layer.get_parameter(name) for name in ("A_log", "D", "dt_bias")}
    found |= {"mixer.conv1d.weight": layer.taps.T[:, None], "mixer.conv1d.bias": layer.bias}
    return {name: value.detach() for name, value in (found | {"norm.weight": layer.norm.weight}).items()}


if __name__ == "__main__":
    main()
