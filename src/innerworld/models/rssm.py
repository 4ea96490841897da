"""The recurrent state-space model of Dreamer: its world-model half (DreamerV3, arXiv 2301.04104, Nature 2025).

A belief is a deterministic memory (`deter`) and a stochastic latent (`stoch`). The memory and an action give the next
memory; the *prior* guesses the latent from that memory alone, the *posterior* from memory and observation. Training
makes the guess agree with what was seen; imagining runs on the prior, eyes shut.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.nn.block_gru import BlockGRU, BlockLinear
from innerworld.nn.conv import ChannelNorm, ConvDecoder, ConvEncoder, Output, Resize
from innerworld.nn.distributions import (
    Gaussian,
    Latent,
    OneHot,
    balanced_kl,
    symexp_bins,
    twohot_loss,
    twohot_mean,
)
from innerworld.nn.mlp import EPS, MLP, linear
from innerworld.nn.sensors import image_in, image_out, symexp, symlog
from innerworld.types import Clip, Obs, Spec, State
from innerworld.world import Card, WorldModel

GRID = 16  # side of the pictures by which states are compared, pixels
PORTION = 4096  # states decoded at once to be compared


class RSSMConfig(Config):
    deter: int = Field(default=512, description="size of the deterministic memory", ge=1)
    hidden: int = Field(default=64, description="width inside the cell, the prior and the posterior", ge=1)
    stoch: int = Field(default=32, description="latents: categorical groups, or Gaussian dimensions", ge=1)
    classes: int = Field(default=4, description="categorical: classes of each group", ge=2)
    depth: int = Field(default=4, description="image channels, times `mults`", ge=1)
    units: int = Field(default=64, description="width of the vector encoder, the decoder and the heads", ge=1)
    layers: int = Field(default=3, description="layers of the vector encoder and decoder", ge=1)
    blocks: int = Field(default=8, description="blocks of the memory; must divide `deter`", ge=1)
    latent: Literal["categorical", "gaussian"] = Field(default="categorical", description="kind of latent")
    unimix: float = Field(default=0.01, description="categorical: share of the uniform mixed in", ge=0, lt=1)
    free_nats: float = Field(default=1.0, description="KL below this costs nothing, nats", ge=0)
    soften: int = Field(default=0, description="steps in which latents go from their mean to draws", ge=0)
    dyn: float = Field(default=1.0, description="weight of the KL that teaches the prior", ge=0)
    rep: float = Field(default=0.1, description="weight of the KL that teaches the posterior", ge=0)
    reward: float = Field(default=1.0, description="weight of the reward's loss; 0 leaves its head out", ge=0)
    continues: float = Field(default=1.0, description="weight of the continuation's loss; 0 leaves its head out", ge=0)
    bins: int = Field(default=255, description="two-hot bins of the reward, odd", ge=3)
    horizon: float = Field(default=333.0, description="discount as steps: going on has the target 1 - 1/horizon", gt=1)
    image: Resize = Field(default="maxpool", description="how images shrink: maxpool (paper) or strided (fast)")
    output: Output = Field(default="sigmoid", description="decoded pixels: sigmoid (V3) or linear (v1, v2)")
    mults: tuple[int, ...] = Field(default=(2, 3, 4, 4), description="channels per stage, times `depth`", min_length=1)
    kernel: int = Field(default=5, description="side of the image kernels, pixels; odd for maxpool", ge=2)
    image_size: int | None = Field(default=None, description="side at which images are seen, pixels (none: own)", ge=8)


class RSSM(WorldModel):
    """Recurrent state-space model with block GRU, one-hot or Gaussian latents, decoder, reward and continuation.

    State: `deter` `b d`, `stoch` `b g k`, and the parameters of its distribution (`logits`, or `mean` and `std`).
    """

    Config = RSSMConfig
    card = Card(
        name="DreamerV3 (world model)",
        predicts="latents",
        decodes=True,
        backbone="block GRU",
        paper="arXiv 2301.04104",
    )
    presets: ClassVar[dict[str, Config]] = {
        # DreamerV3's sizes (`configs.yaml`); their other settings are the defaults above.
        "1m": RSSMConfig(),
        "12m": RSSMConfig(deter=2048, hidden=256, classes=16, depth=16, units=256),
        "25m": RSSMConfig(deter=3072, hidden=384, classes=24, depth=24, units=384),
        "50m": RSSMConfig(deter=4096, hidden=512, classes=32, depth=32, units=512),
        "100m": RSSMConfig(deter=6144, hidden=768, classes=48, depth=48, units=768),
        "200m": RSSMConfig(deter=8192, hidden=1024, classes=64, depth=64, units=1024),
        "400m": RSSMConfig(deter=12288, hidden=1536, classes=96, depth=96, units=1536),
        # For a laptop's processor: 64×64 pictures seen at half size; AdamW 2e-3, 16 clips of 16 steps.
        "small": RSSMConfig(
            deter=256,
            hidden=128,
            classes=8,
            depth=8,
            units=128,
            image="strided",
            output="linear",
            mults=(1, 2, 4),
            kernel=4,
            image_size=32,
            soften=1000,
        ),
    }

    def __init__(self, config: RSSMConfig, spec: Spec) -> None:
        super().__init__(config, spec)
        _check(config)
        flat = config.stoch * (config.classes if config.latent == "categorical" else 1)
        raw = config.stoch * (config.classes if config.latent == "categorical" else 2)
        feat = config.deter + flat
        self.encoder = _Encoder(config, spec)
        self.cell = BlockGRU(config.deter, flat, spec.action, config.hidden, config.blocks)
        self.prior = MLP(config.deter, config.hidden, layers=2, out_dim=raw)
        self.posterior = _Posterior(config.deter, self.encoder.width, config.hidden, raw)
        self.decoder = _Decoder(config, spec, flat)
        self.reward = MLP(feat, config.units, 1, out_dim=config.bins, outscale=0.0) if config.reward else None
        self.continues = MLP(feat, config.units, 1, out_dim=1) if config.continues else None
        self.age: Tensor  # optimiser steps so far, as long as they matter
        self.register_buffer("age", torch.zeros((), dtype=torch.long))
        self.bins: Tensor
        self.register_buffer("bins", symexp_bins(config.bins), persistent=False)

    # ------------------------------------------------------------------ the five verbs

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        look = self.posterior.look(self.encoder(self.encoder.ready(obs)))  # b hidden
        deter, stoch, action = self._past(look, state, action)
        deter = self.cell(deter, stoch, self.cell.push(action))
        return _state(deter, self._latent(self.posterior(deter, look)))

    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        deter = self.cell(state["deter"], state["stoch"].flatten(1), self.cell.push(action))
        return _state(deter, self._latent(self.prior(deter)), rng)

    def decode(self, state: State) -> dict[str, Tensor]:
        feat = self.features(state)
        seen = self.decoder.sensors(state["deter"], feat)
        if self.reward is not None:
            seen["reward"] = twohot_mean(self.reward(feat), self.bins)
        if self.continues is not None:
            seen["continue"] = torch.sigmoid(self.continues(feat)).squeeze(-1)
        return seen

    def energy(self, state: State, goal: State) -> Tensor:
        """How far what is decoded would have to be moved to look like the goal (`_Decoder.place`).

        A goal is believed from a blank past, so the two memories cannot be compared, only what they say is seen. Plain
        pixel error, the latent's probabilities and a head that tells the encoder's tokens were tried on two_rooms:
        for these, everything farther than its own width is equally far, so a planner has nothing to climb.
        """
        return (self._place(state) - self._place(goal)).square().sum(dim=-1)

    def features(self, state: State) -> Tensor:
        """Memory and latent: `b d`."""
        return torch.cat([state["deter"], state["stoch"].flatten(-2)], dim=-1)

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        """DreamerV3, eq. 2–5: decoding errors summed over a sensor, KL to the prior and back, means over b and t."""
        config = cast(RSSMConfig, self.config)
        obs = self.encoder.ready(clip.obs)
        tokens = self.encoder(obs)  # b t+1 e
        deter, stoch, raw = self._follow(tokens, clip.action, sample=True)
        feat = torch.cat([deter, stoch.flatten(-2)], dim=-1)  # b t+1 d
        posterior, prior = self._latent(raw), self._latent(self.prior(deter))
        dyn, rep = balanced_kl(posterior, prior, config.free_nats)  # b t+1

        parts = self.decoder.losses(deter, feat, obs)
        total = torch.stack(list(parts.values())).sum() + config.dyn * dyn.mean() + config.rep * rep.mean()
        parts |= {"dyn": dyn.mean(), "rep": rep.mean(), "kl": posterior.kl(prior).mean()}
        if self.reward is not None:  # reward[t] comes with obs[t+1]
            parts["reward"] = twohot_loss(self.reward(feat[:, 1:]), clip.reward.float(), self.bins).mean()
            total = total + config.reward * parts["reward"]
        if self.continues is not None:
            target = (1 - clip.terminated.float()) * (1 - 1 / config.horizon)
            logit = self.continues(feat[:, 1:]).squeeze(-1)
            parts["continue"] = F.binary_cross_entropy_with_logits(logit, target)
            total = total + config.continues * parts["continue"]
        return total, {name: value.detach() for name, value in parts.items()}

    def after_step(self) -> None:
        self.age.add_(1)

    # ------------------------------------------------------------------ faster

    def watch(self, clip: Clip) -> State:
        tokens = self.encoder(self.encoder.ready(clip.obs))
        deter, _, raw = self._follow(tokens, clip.action, sample=False)
        return _state(deter, self._latent(raw))

    # ------------------------------------------------------------------ below

    def _follow(self, tokens: Tensor, action: Tensor, sample: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Believe along `tokens` `b t+1 e`, from a blank past: deter, stoch and raw posterior, each `b t+1 ...`."""
        look = self.posterior.look(tokens)
        deter, stoch, nothing = self._past(look[:, 0], None, None)
        push = self.cell.push(torch.cat([nothing.unsqueeze(1), action], dim=1))  # b t+1 d
        steps = []
        for t in range(look.shape[1]):
            deter = self.cell(deter, stoch, push[:, t])
            raw = self.posterior(deter, look[:, t])
            latent = self._latent(raw)
            groups = self._draw(latent) if sample else latent.mode()  # b g k
            stoch = groups.flatten(1)
            steps.append((deter, groups, raw))
        deters, stochs, raws = (torch.stack(each, dim=1) for each in zip(*steps, strict=True))
        return deters, stochs, raws

    def _past(self, like: Tensor, state: State | None, action: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Memory, flat latent and action to step from: all zero where there is no past."""
        if (state is None) != (action is None):
            raise UserError("encode: give both the last state and the action since, or neither")
        if state is not None and action is not None:
            return state["deter"], state["stoch"].flatten(1), action
        zeros = lambda width: like.new_zeros(like.shape[0], width)
        return zeros(self.cell.deter), zeros(self.cell.stoch), zeros(self.spec.action)

    def _place(self, state: State) -> Tensor:
        """`_Decoder.place`, in portions: 10⁵ imagined states at once would take gigabytes."""
        deter, feat = state["deter"].split(PORTION), self.features(state).split(PORTION)
        return torch.cat([self.decoder.place(d, f) for d, f in zip(deter, feat, strict=True)])

    def _draw(self, latent: Latent) -> Tensor:
        """A draw; in the first `soften` steps between the mean and a draw.

        A small thing in a large picture is worth little and moves a fresh latent little, so that a draw hides it: the
        decoder learns to ignore the latent before the encoder has learnt to speak. Not in the papers, which have time.
        """
        config = cast(RSSMConfig, self.config)
        if not config.soften or not self.training or self.age >= config.soften:
            return latent.sample()
        return torch.lerp(latent.expected(), latent.sample(), self.age / config.soften)

    def _latent(self, raw: Tensor) -> Latent:
        """Network outputs `... (g k)` → their distribution."""
        config = cast(RSSMConfig, self.config)
        if config.latent == "gaussian":
            return Gaussian.bounded(raw)
        return OneHot.mixed(raw.unflatten(-1, (config.stoch, config.classes)), config.unimix)


def _state(deter: Tensor, latent: Latent, rng: Generator | None = None) -> State:
    """Without `rng` the most likely latent, else a draw."""
    stoch = latent.mode() if rng is None else latent.sample(rng)
    return {"deter": deter, "stoch": stoch, **latent.tensors()}


def _check(config: RSSMConfig) -> None:
    if config.image == "maxpool" and config.kernel % 2 == 0:
        raise UserError(f"kernel={config.kernel}: image=maxpool needs an odd one")
    if config.bins % 2 == 0:
        raise UserError(f"bins={config.bins}: choose an odd number, so that one of them is 0")


class _Posterior(nn.Module):
    """Memory `b d` and tokens `b e` → raw latent. One layer over both, split so that all tokens are read at once."""

    def __init__(self, deter: int, tokens: int, hidden: int, raw: int) -> None:
        super().__init__()
        self.memory = linear(deter, hidden, fan_in=deter + tokens)
        self.look = linear(tokens, hidden, bias=False, fan_in=deter + tokens)
        self.norm = nn.RMSNorm(hidden, eps=EPS)
        self.out = linear(hidden, raw)

    def forward(self, deter: Tensor, look: Tensor) -> Tensor:
        return self.out(F.silu(self.norm(self.memory(deter) + look)))


class _Encoder(nn.Module):
    """Sensors → tokens `... e`: pictures are stacked along their channels, vectors end to end."""

    def __init__(self, config: RSSMConfig, spec: Spec) -> None:
        super().__init__()
        self.images, self.vectors, self.size = spec.images(), spec.vectors(), config.image_size
        self.width = 0
        if self.vectors:
            self.mlp = MLP(sum(spec.obs[name][0] for name in self.vectors), config.units, config.layers)
            self.width += config.units
        if self.images:
            channels = sum(spec.obs[name][2] for name in self.images)
            self.conv = ConvEncoder(
                channels, _sides(config, spec), config.depth, config.mults, config.kernel, config.image
            )
            self.width += self.conv.width

    def ready(self, obs: Obs) -> Obs:
        """Sensors as networks want them: pictures `... c y x` at the size at which they are seen, vectors in symlog."""
        pictures = {name: image_in(obs[name], self.size).unflatten(0, obs[name].shape[:-3]) for name in self.images}
        return pictures | {name: symlog(obs[name].float()) for name in self.vectors}

    def forward(self, ready: Obs) -> Tensor:
        tokens = []
        if self.vectors:
            tokens.append(self.mlp(torch.cat([ready[name] for name in self.vectors], dim=-1)))
        if self.images:
            picture = torch.cat([ready[name] for name in self.images], dim=-3)
            tokens.append(self.conv(picture.flatten(0, -4)).unflatten(0, picture.shape[:-3]))
        return torch.cat(tokens, dim=-1)


class _Decoder(nn.Module):
    """Memory and features → sensors, and how far they are from the real ones."""

    def __init__(self, config: RSSMConfig, spec: Spec, flat: int) -> None:
        super().__init__()
        self.spec, self.size, self.deter = spec, config.image_size, config.deter
        self.images, self.vectors = spec.images(), spec.vectors()
        # An error is that of the sensor's own pixels: seeing them smaller saves time and must not lighten pictures.
        self.pixels = {name: math.prod(spec.obs[name][:2]) / math.prod(_sides(config, spec)) for name in self.images}
        if self.vectors:
            width = sum(spec.obs[name][0] for name in self.vectors)
            self.mlp = MLP(config.deter + flat, config.units, config.layers, out_dim=width)
        if self.images:
            channels = sum(spec.obs[name][2] for name in self.images)
            self.conv = ConvDecoder(
                channels, _sides(config, spec), config.depth, config.mults, config.kernel, config.image, config.output
            )
            self.map = _StartMap(config, flat, self.conv.start)
            y, x = _sides(config, spec)
            self.grid = min(y, GRID), min(x, GRID)
            self.root: Tensor
            self.register_buffer("root", _energy_root(*self.grid), persistent=False)

    def sensors(self, deter: Tensor, feat: Tensor) -> Obs:
        """As `obs` has them: pictures `b y x c` in [0, 1], vectors `b n`."""
        pictures, vectors = self._pictures(deter, feat), self._vectors(feat)
        seen = {name: image_out(picture.clamp(0, 1), self.spec.obs[name]) for name, picture in pictures.items()}
        return seen | {name: symexp(vector) for name, vector in vectors.items()}

    def losses(self, deter: Tensor, feat: Tensor, ready: Obs) -> dict[str, Tensor]:
        """Squared error of each sensor, summed over its pixels or numbers, of states `b t ...`: scalars."""
        deter, feat = deter.flatten(0, 1), feat.flatten(0, 1)
        told = self._pictures(deter, feat) | self._vectors(feat)
        errors = {name: (x - ready[name].flatten(0, 1)).square().flatten(1).sum(1).mean() for name, x in told.items()}
        return {name: error * self.pixels.get(name, 1.0) for name, error in errors.items()}

    def place(self, deter: Tensor, feat: Tensor) -> Tensor:
        """What is where, `b e`: the squared distance of two of these grows with the way that things have moved.

        Pictures are compared by the energy distance (Székely): Δᵀ K Δ for the difference Δ of two coarse pictures,
        with K falling linearly with the distance of two pixels; a dot moved by r is then r away, however far. So here
        is K^½ times the picture. Vectors count as they are, in symlog.
        """
        seen = list(self._vectors(feat).values())
        for picture in self._pictures(deter, feat).values():
            coarse = F.adaptive_avg_pool2d(picture, self.grid).flatten(2)  # b c (y x)
            seen.append((coarse @ self.root).flatten(1))
        return torch.cat(seen, dim=-1)

    def _pictures(self, deter: Tensor, feat: Tensor) -> dict[str, Tensor]:
        """`b c y x` each, at the size at which they are seen."""
        if not self.images:
            return {}
        picture = self.conv(self.map(deter, feat[:, self.deter :]))
        return dict(zip(self.images, picture.split([self.spec.obs[name][2] for name in self.images], 1), strict=True))

    def _vectors(self, feat: Tensor) -> dict[str, Tensor]:
        """`b n` each, in symlog."""
        if not self.vectors:
            return {}
        vector = self.mlp(feat)
        return dict(zip(self.vectors, vector.split([self.spec.obs[name][0] for name in self.vectors], -1), strict=True))


class _StartMap(nn.Module):
    """Memory `b d` and latent `b s` → the decoder's smallest map `b c y x`; a block paints its own channels."""

    def __init__(self, config: RSSMConfig, flat: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        c, y, x = self.shape = shape
        self.blocks = config.blocks
        self.memory = BlockLinear(config.deter, c * y * x, config.blocks)
        self.latent = MLP(flat, 2 * config.units, layers=1, out_dim=c * y * x)
        self.norm = ChannelNorm(c)

    def forward(self, deter: Tensor, stoch: Tensor) -> Tensor:
        return F.silu(self.norm((self.memory(deter) + self.latent(stoch)).unflatten(-1, self.shape)))


def _energy_root(y: int, x: int) -> Tensor:
    """K^½, `(y x) (y x)`: K = -distance on the unit square, centred to be positive, plus the mean."""
    rows, columns = (torch.arange(side, dtype=torch.float64) / max(y, x) for side in (y, x))
    points = torch.cartesian_prod(rows, columns)
    mean = torch.full((y * x, y * x), 1 / (y * x), dtype=torch.float64)
    centre = torch.eye(y * x, dtype=torch.float64) - mean
    values, vectors = torch.linalg.eigh(mean - centre @ torch.cdist(points, points) @ centre)
    return (vectors * values.clamp(min=0).sqrt() @ vectors.T).float()


def _sides(config: RSSMConfig, spec: Spec) -> tuple[int, int]:
    """y and x at which all images are seen."""
    if config.image_size is not None:
        return config.image_size, config.image_size
    sides = {spec.obs[name][:2] for name in spec.images()}
    if len(sides) > 1:
        raise UserError(f"images of different sizes {sorted(sides)}: set image_size, so that all are seen at one")
    y, x = sides.pop()
    return y, x
