"""Our diffusion family beside DIAMOND (MIT) on the same weights: what both imagine, and how fast; nothing is copied.

    git clone https://github.com/eloialonso/diamond
    python bench/peer_diamond.py diamond
    python bench/peer_diamond.py diamond --golden      # the numbers in tests/models/test_diffusion.py

Its modules are loaded from the checkout. What they import and do not use here (hydra, wandb, torcheval) need not be
installed: empty modules stand in.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor, nn

from innerworld.models import Diffusion, Dreamer
from innerworld.models.diffusion_config import DIAMOND, DiffusionConfig, EndsConfig
from innerworld.models.dreamer_config import DreamerConfig
from innerworld.nn import edm
from innerworld.policy.actor import ActorConfig
from innerworld.policy.actor_critic import ActorCritic, ActorCriticConfig
from innerworld.policy.critic import CriticConfig
from innerworld.policy.sight import SightConfig
from innerworld.types import Spec

ACTIONS, SIZE, ROWS = 4, 64, 2
FRAMES = DIAMOND.history
TINY = DiffusionConfig(
    image_size=12,
    history=2,
    steer=8,
    channels=(8, 16),
    depths=(1, 2),
    attention=(False, True),
    rounding="down",
    ends=EndsConfig(hidden=6, steer=4, channels=(8, 8), depths=(1, 1), head="sign"),
)

TINY_ACTS = ActorCriticConfig(
    actor=ActorConfig(layers=0),
    critic=CriticConfig(layers=0, kind="normal", slow_weight=0.0),
    sight=SightConfig(channels=(8, 16), hidden=6),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clone", type=Path, help="a checkout of eloialonso/diamond")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", type=int, nargs="+", default=(1, 8), help="frames imagined at once")
    parser.add_argument("--repeats", type=int, default=7, help="timed runs of each, taken in turns; the fastest counts")
    parser.add_argument("--golden", action="store_true", help="what its code makes of a tiny model, for our tests")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    load(args.clone)
    if args.golden:
        golden()
        return
    peer, ours = Peer(DIAMOND, SIZE), build(DIAMOND, SIZE)
    print("parameters: denoiser, reward and end; ours, theirs")
    print(" ", *(f"{count(part):,}" for part in (ours.denoiser, ours.ends, peer.denoiser, peer.ends) if part))
    stir(peer.denoiser)
    stir(peer.ends)
    adopt(ours, peer)
    with torch.inference_mode():
        compare(ours, peer)
        compare_actors()
        clock(ours, peer, args.rows, args.repeats)


def load(clone: Path) -> None:
    """Make a checkout's modules importable, without what they do not need here."""
    source = clone / "src" / "models"
    if not source.is_dir():
        raise SystemExit(f"{clone} is no checkout of eloialonso/diamond: it has no src/models")
    _stand_in("data", Batch=None)
    _stand_in("utils", LossAndLogs=None, init_lstm=lambda model: None)
    _stand_in("torcheval")
    _stand_in("torcheval.metrics")
    _stand_in("torcheval.metrics.functional", multiclass_confusion_matrix=None)
    _stand_in("coroutines")
    _stand_in("coroutines.env_loop", make_env_loop=None)
    _stand_in("envs", TorchEnv=None, WorldModelEnv=None)
    _stand_in("models").__path__ = [str(source)]


def build(config: DiffusionConfig, size: int) -> Diffusion:
    return Diffusion(config, Spec({"pixels": (size, size, 3)}, ACTIONS, discrete=True)).eval()


class Peer:
    """DIAMOND's denoiser, sampler and reward and end model, of our settings."""

    def __init__(self, config: DiffusionConfig, size: int) -> None:
        from models import diffusion  # pyright: ignore[reportMissingImports]
        from models.rew_end_model import RewEndModel, RewEndModelConfig  # pyright: ignore[reportMissingImports]

        attention = [int(attends) for attends in config.attention] or [0] * len(config.channels)
        inner = diffusion.InnerModelConfig(
            3, config.history, config.steer, list(config.depths), list(config.channels), attention, ACTIONS
        )
        self.denoiser = diffusion.Denoiser(diffusion.DenoiserConfig(inner, config.sigma_data, config.offset)).eval()
        its = config.ends
        ends = RewEndModelConfig(
            its.hidden, 3, size, its.steer, list(its.depths), list(its.channels), [0] * len(its.channels), ACTIONS
        )
        self.ends = RewEndModel(ends).eval()
        self._sampler, self._settings = diffusion.DiffusionSampler, diffusion.DiffusionSamplerConfig

    def sampler(self, steps: int) -> Any:
        return self._sampler(self.denoiser, self._settings(steps))


@torch.no_grad()
def stir(module: nn.Module) -> None:
    """Random weights everywhere: what begins with zeros would hide a mistake."""
    for value in module.parameters():
        value.add_(torch.randn_like(value) * 0.05)


def build_actor(config: ActorCriticConfig, size: int) -> ActorCritic:
    return ActorCritic(config, 0, Spec({"pixels": (size, size, 3)}, ACTIONS, discrete=True))


def peer_actor(config: ActorCriticConfig, size: int) -> nn.Module:
    """Its actor and critic, of our settings."""
    from models import actor_critic  # pyright: ignore[reportMissingImports]

    sight = config.sight
    halved = [1] * len(sight.channels)
    return actor_critic.ActorCritic(
        actor_critic.ActorCriticConfig(sight.hidden, 3, size, list(sight.channels), halved, ACTIONS)
    )


def actor_pairs(ours: ActorCritic, peer: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """Each of our weights, and theirs."""
    assert ours.sight is not None
    for mine, its in (
        (ours.sight.net, peer.encoder),
        (ours.sight.memory, peer.lstm),
        (ours.actor, peer.actor_linear),
        (ours.critic, peer.critic_linear),
    ):
        yield from zip(mine.parameters(), its.parameters(), strict=True)


@torch.no_grad()
def act(ours: ActorCritic, pictures: Tensor) -> Tensor:
    """Log chances of actions and what they are worth, `t n a+1`, after each of t pictures in a row."""
    assert ours.sight is not None
    steps = ours.sight.features(pictures, ours.sight.blank(pictures.shape[1]))
    return torch.stack(
        [torch.cat([ours.actor.net(step).log_softmax(-1), ours.critic(step).mean()[:, None]], -1) for step in steps]
    )


@torch.no_grad()
def peer_act(peer: Any, pictures: Tensor) -> Tensor:
    """The same of its code."""
    memory = tuple(pictures.new_zeros(pictures.shape[1], peer.lstm_dim) for _ in range(2))
    found = []
    for picture in pictures:
        logits, value, memory = peer.predict_act_value(picture, memory)
        found.append(torch.cat([logits.log_softmax(-1), value[:, None]], -1))
    return torch.stack(found)


def pairs(ours: Diffusion, peer: Peer) -> Iterator[tuple[Tensor, Tensor]]:
    """Each of our weights, and theirs: the layers of both come in the same order."""
    denoiser, ends, theirs = ours.denoiser, ours.ends, peer.denoiser.inner_model
    assert ends is not None
    yield denoiser.frequencies, theirs.noise_emb.weight[0]
    yield denoiser.action.weight, theirs.act_emb[0].weight.T
    yield ends.action.weight, peer.ends.act_emb.weight.T
    for mine, its in (
        (denoiser.condition, theirs.cond_proj),
        (denoiser.into, theirs.conv_in),
        (denoiser.unet.down, theirs.unet.d_blocks),
        (denoiser.unet.middle, theirs.unet.mid_blocks),
        (denoiser.unet.up, theirs.unet.u_blocks),
        (denoiser.unet.halve, theirs.unet.downsamples),
        (denoiser.unet.enlarge, theirs.unet.upsamples),
        (denoiser.norm, theirs.norm_out),
        (denoiser.out, theirs.conv_out),
        (ends.into, peer.ends.encoder.conv_in),
        (ends.body.blocks, peer.ends.encoder.blocks),
        (ends.body.halve, peer.ends.encoder.downsamples),
        (ends.memory, peer.ends.lstm),
        (ends.head, peer.ends.head),
    ):
        yield from zip(mine.parameters(), its.parameters(), strict=True)


@torch.no_grad()
def adopt(ours: Diffusion, peer: Peer) -> None:
    """Give ours the peer's weights."""
    for mine, its in pairs(ours, peer):
        assert mine.shape == its.shape, f"{tuple(mine.shape)} and {tuple(its.shape)}"
        mine.copy_(its)


@torch.no_grad()
def golden() -> None:
    """What its code says, draws and tells with weights that a formula gives: `weigh` in the test."""
    size = TINY.image_size or SIZE
    ours, peer = build(TINY, size).double(), Peer(TINY, size)
    for part in (peer.denoiser, peer.ends):
        part.double()
    weigh(ours)
    for mine, its in pairs(ours, peer):
        its.copy_(mine)
    frames, x = wave(2, TINY.history, 3, size, size), wave(2, 3, size, size).flip(-1)
    actions, sigma = torch.tensor([[0, 3], [2, 1]]), torch.tensor([0.3, 4.0], dtype=torch.float64)
    theirs = peer.denoiser
    said = theirs.compute_model_output(x, frames.flatten(1, 2), actions, theirs.compute_conditioners(sigma))
    sampler, randn = peer.sampler(3), torch.randn
    sampler.sigmas = edm.levels(3, like=x)
    torch.randn = lambda *shape, device: x  # its sampler draws its noise itself
    drawn = sampler.sample(frames, actions)[0]
    torch.randn = randn
    reward, end, _ = peer.ends.predict_rew_end(frames, actions, wave(2, TINY.history, 3, size, size).flip(0))
    print("said", said[:, :, 5, 7].tolist(), said.square().mean().item())
    print("drawn", ((drawn[:, :, 5, 7] + 1) / 2 * 255).round().int().tolist(), drawn.mean().item())
    print("told", torch.cat([reward, end], dim=-1)[:, -1].tolist())
    mine, its = build_actor(TINY_ACTS, size).double(), peer_actor(TINY_ACTS, size).double()
    weigh_all(value for value, _ in actor_pairs(mine, its))
    for one, other in actor_pairs(mine, its):
        other.copy_(one)
    print("acts", peer_act(its, wave(3, 2, 3, size, size))[-1].tolist())


@torch.no_grad()
def weigh(ours: Diffusion) -> None:
    """Weights by a formula, so that none need to be kept."""
    weigh_all([ours.denoiser.frequencies, *ours.parameters()])


@torch.no_grad()
def weigh_all(weights: Iterable[Tensor]) -> None:
    for k, value in enumerate(weights):
        entries = torch.arange(value.numel(), dtype=torch.float64)
        value.copy_((torch.sin(0.37 * (k + 1) * entries + k) * (2 / max(1, value[0].numel())) ** 0.5).view(value.shape))


def wave(*shape: int) -> Tensor:
    """Numbers in [-1, 1] by a formula."""
    entries = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return torch.sin(0.11 * entries + 0.0003 * entries.square()).view(shape)


def compare(ours: Diffusion, peer: Peer) -> None:
    """Largest differences: of the net, of a whole sample of 3 steps, of reward and end; the sample in double, too.

    A sample is cut to 8 bit at each step, which a difference of the last digit can turn into one of 1/255; in double
    none is left.
    """
    for dtype in (torch.float32, torch.float64):
        ours.to(dtype)
        peer.denoiser.to(dtype)
        peer.ends.to(dtype)
        frames, actions, sigma, x = work(ROWS, dtype)
        theirs = peer.denoiser
        at = theirs.compute_conditioners(sigma)
        net = theirs.compute_model_output(x, frames.flatten(1, 2), actions, at)
        said, _ = ours.denoiser(x, sigma, frames, one_hot(actions, dtype))
        torch.manual_seed(1)
        start = torch.randn(ROWS, 3, SIZE, SIZE)  # the peer draws its noise itself
        torch.manual_seed(1)
        sampler = peer.sampler(3)
        sampler.sigmas = edm.levels(3, like=x)
        if dtype == torch.float64:
            torch.set_default_dtype(dtype)
            start = torch.randn(ROWS, 3, SIZE, SIZE)
            torch.manual_seed(1)
        sample = sampler.sample(frames, actions)[0]
        torch.set_default_dtype(torch.float32)
        drawn = ours.denoiser.sample(frames, one_hot(actions, dtype), start.to(dtype), 3).to(dtype) / 255 * 2 - 1
        gap = (sample - drawn).abs()
        told = _ends_gap(ours, peer, frames, actions)
        print(f"{dtype}: largest difference of the net {_far(said, net):.1e} (it says up to {net.abs().max():.2f})")
        print(f"  of a sample {gap.max():.1e}, in {(gap > 1e-5).float().mean():.1e} of its numbers above 1e-5")
        print(f"  of reward and end, three steps {told:.1e}")
        assert _far(said, net) <= 1e-5 * max(1.0, float(net.abs().max())) and told <= 1e-5
        assert (gap > 1e-5).float().mean() <= (1e-3 if dtype == torch.float32 else 0)
    ours.float()
    peer.denoiser.float()


def compare_actors() -> None:
    """Parameters, and the largest difference of chances and worths along three pictures."""
    acting = cast(DreamerConfig, Dreamer.presets["diamond"]).actor_critic
    for dtype in (torch.float32, torch.float64):
        ours, peer = build_actor(acting, SIZE).to(dtype), peer_actor(acting, SIZE).to(dtype)
        stir(peer)
        for mine, its in actor_pairs(ours, peer):
            mine.copy_(its)
        pictures = torch.rand(3, ROWS, 3, SIZE, SIZE, dtype=dtype) * 2 - 1
        gap = _far(act(ours, pictures), peer_act(peer, pictures))
        print(f"{dtype}: actor and critic, {count(ours):,} and {count(peer):,} parameters; three pictures {gap:.1e}")
        assert gap <= 1e-5


def _ends_gap(ours: Diffusion, peer: Peer, frames: Tensor, actions: Tensor) -> float:
    """Between the scores of reward and end, along the frames."""
    reward, end, _ = peer.ends.predict_rew_end(frames[:, :-1], actions[:, :-1], frames[:, 1:])
    assert ours.ends is not None
    h = c = frames.new_zeros(len(frames), ours.ends.hidden)
    worst = 0.0
    for t in range(FRAMES - 1):
        action = one_hot(actions[:, t], frames.dtype)
        h, c = ours.ends.remember(ours.ends.look(frames[:, t], frames[:, t + 1], action), h, c)
        worst = max(worst, _far(ours.ends.head(h), torch.cat([reward, end], dim=-1)[:, t]))
    return worst


def clock(ours: Diffusion, peer: Peer, rows: list[int], repeats: int) -> None:
    """Frames per second of the samplers, in turns, for the machine is shared."""
    print("rows at once, steps; frames per CPU second, and per second of the clock: ours, ours in bfloat16, theirs")
    for many in rows:
        for steps in (1, 3):
            ways = _ways(ours, peer, many, steps)
            took = [[_seconds(way) for way in ways] for _ in range(repeats + 1)][1:]
            wall, cpu = ([many / min(turn[i][k] for turn in took) for i in range(len(ways))] for k in (0, 1))
            speeds = "   ".join(" ".join(f"{speed:>6.2f}" for speed in one) for one in (cpu, wall))
            print(f"{many:>4} {steps:>2}   {speeds}   ours by theirs, CPU {cpu[0] / cpu[2]:.2f}", flush=True)


def _ways(ours: Diffusion, peer: Peer, rows: int, steps: int) -> list[Callable[[], object]]:
    """To imagine a frame each."""
    frames, actions, _, x = work(rows, torch.float32)
    moves, sampler, denoiser = one_hot(actions, torch.float32), peer.sampler(steps), ours.denoiser
    single, quick = (denoiser.config.model_copy(update={"precision": of}) for of in ("float32", "bfloat16"))

    def mine(config: DiffusionConfig) -> None:
        denoiser.config = config
        denoiser.sample(frames, moves, x, steps)

    return [lambda: mine(single), lambda: mine(quick), lambda: sampler.sample(frames, actions)]


def work(rows: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Frames `r n c y x` in [-1, 1], actions `r n`, noise levels `r` and something noisy `r c y x`."""
    frames = torch.rand(rows, FRAMES, 3, SIZE, SIZE, dtype=dtype) * 2 - 1
    return (
        frames,
        torch.randint(ACTIONS, (rows, FRAMES)),
        torch.rand(rows, dtype=dtype) * 5 + 0.01,
        torch.randn(rows, 3, SIZE, SIZE, dtype=dtype),
    )


def one_hot(actions: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.nn.functional.one_hot(actions, ACTIONS).to(dtype)


def count(module: nn.Module) -> int:
    return sum(value.numel() for value in module.parameters())


def _far(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


def _seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Of the clock and of the CPU."""
    began = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began[0], time.process_time() - began[1]


def _stand_in(name: str, **names: Any) -> ModuleType:
    module = ModuleType(name)
    for key, value in names.items():
        setattr(module, key, value)
    sys.modules[name] = module
    return module


if __name__ == "__main__":
    main()
