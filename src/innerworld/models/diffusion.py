"""Diffusion in pixels by DIAMOND's settings (arXiv 2405.12399): every next frame is denoised out of noise.

A U-Net is shown the last frames and a noisy next one, and told what was done; a few Euler steps make that clean. There
is no latent: what is imagined is the frames themselves, 8 bit as if they had been seen. Beside it a convolution net
with an LSTM reads frames, seen or imagined, and tells reward and end.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from innerworld.errors import UserError
from innerworld.models.diffusion_config import PRESETS, DiffusionConfig, check
from innerworld.models.diffusion_denoiser import BYTE, Denoiser, signed
from innerworld.models.diffusion_ends import Ends
from innerworld.models.latent_world import lived
from innerworld.models.tokens import check_action, check_sizes
from innerworld.nn.sensors import image_in, image_out, to_uint8
from innerworld.types import Clip, Obs, Spec, State, each
from innerworld.world import Card, Roll, WorldModel, flatten

PIXELS = 2**18  # of frames that are denoised at once: more would need memory and save no time
SEEN = 8  # side to which a frame is shrunk to be a feature, where nothing else looks at it


class Diffusion(WorldModel):
    """The next frame, denoised. Images only, side by side in channels where there are several; vectors are not seen.

    State, each `b ...`, n = `history`: `frame` `c y x` of now and `past` `n-1 c y x` those before, 8 bit, the latest
    last; `acts` `n-1 a` what was done at those; `time` how many of them there are. Of the net that tells reward and end
    `seen` `d`, what it made of the last two frames, and its memory `h` and `c` `d`. Beliefs are not kept in a replay:
    they would be larger than what was seen, so clips are believed from a blank past.
    """

    Config = DiffusionConfig
    restarts = True
    sampling = ("steps", "start", "rho", "precision")
    alike = True  # most of a picture is always the same
    card = Card(
        name="DIAMOND", predicts="pixels", decodes=True, backbone="diffusion over 4 frames", paper="arXiv 2405.12399"
    )
    presets = PRESETS

    def __init__(self, config: DiffusionConfig, spec: Spec) -> None:
        if not spec.images():
            raise UserError(f"diffusion imagines pictures, and there are none among {', '.join(spec.obs)}: see rssm")
        check(config)
        super().__init__(config, spec)
        self.sees = spec.only(*spec.images())
        self.size = _size(config, self.sees)
        self.channels = [shape[2] for shape in self.sees.obs.values()]
        self.denoiser = Denoiser(config, sum(self.channels), spec.action)
        told = bool(config.reward), bool(config.continues)
        self.ends = Ends(config.ends, sum(self.channels), self.size, spec.action, *told) if any(told) else None
        self.steps = config.steps  # of denoising; may be changed between frames

    # ------------------------------------------------------------------ the five verbs

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        if (state is None) != (action is None):
            raise UserError("encode: give both the last state and the action since, or neither")
        frame = self._look(obs)
        return self._begun(frame) if state is None or action is None else self._later(state, frame, action)

    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        """With `rng` a sample; without it what the same steps make of no noise, an average where much may happen."""
        check_action(action, self.spec)
        n, now = self.settings.history, state["frame"]
        known = torch.arange(n, device=now.device) >= n - 1 - state["time"][:, None]  # b n
        frames = signed(torch.cat([state["past"], now[:, None]], dim=1), self.like) * known[..., None, None, None]
        actions = torch.cat([state["acts"], action[:, None]], dim=1) * known[..., None]
        start = torch.zeros_like(frames[:, 0]) if rng is None else torch.empty_like(frames[:, 0]).normal_(generator=rng)
        rows = self._portion()
        portions = zip(frames.split(rows), actions.split(rows), start.split(rows), strict=True)
        return self._later(state, torch.cat([self.denoiser.sample(*some, self.steps) for some in portions]), action)

    def decode(self, state: State) -> dict[str, Tensor]:
        pictures = (state["frame"].to(self.like.dtype) / BYTE).split(self.channels, dim=1)
        told: dict[str, Tensor] = {
            name: image_out(picture, shape)
            for (name, shape), picture in zip(self.sees.obs.items(), pictures, strict=True)
        }
        reward, going = self._told(state)
        told |= {} if reward is None else {"reward": reward}
        return told if going is None else told | {"continue": going}

    def energy(self, state: State, goal: State) -> Tensor:
        """Mean squared error of the pictures, in [0, 1]; what was before and what is remembered are left out."""
        pairs = zip(*(of["frame"].split(self._portion()) for of in (state, goal)), strict=True)
        return torch.cat([((a.to(self.like) - b.to(self.like)) / BYTE).square().mean(dim=(1, 2, 3)) for a, b in pairs])

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        total, parts, _ = self.study(clip)
        return total, parts

    def study(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor], State]:
        """EDM's loss on stretches of the clip that are drawn anew each time, and cross-entropies of reward and end.

        The beliefs have no gradients: who learns to act teaches DIAMOND nothing.
        """
        check_action(clip.action, self.spec)
        config, frames = self.settings, self._look(clip.obs)
        parts = {"diffuse": self._denoised(frames, clip)}
        total = parts["diffuse"]
        memory = self._remembered(frames, clip)
        if self.ends is not None:
            weight = {"reward": config.reward, "continue": config.continues}
            for name, error in self.ends.losses(memory["h"][:, 1:], clip.reward, clip.terminated).items():
                parts[name] = lived(error, clip)
                total = total + weight[name] * parts[name]
        return total, each(Tensor.detach, parts), self._beliefs(frames, clip, each(Tensor.detach, memory))

    # ------------------------------------------------------------------ what else is asked of a belief

    def features(self, state: State) -> Tensor:
        """What the net that tells reward and end made of the last two frames, and its memory, `b d`. DIAMOND's actor
        has a convolution net and an LSTM of its own instead. Without that net: the frame, shrunk."""
        if self.ends is None:
            return F.adaptive_avg_pool2d(signed(state["frame"], self.like), SEEN).flatten(1)
        return torch.cat([state["seen"], state["h"]], dim=-1)

    def prospects(self, state: State) -> tuple[Tensor, Tensor]:
        reward, going = self._told(state)
        if reward is None:
            raise UserError("reward=0 left the reward out: what to act for is unknown to this model")
        return reward, torch.ones_like(reward) if going is None else going

    def watch(self, clip: Clip) -> State:
        frames = self._look(clip.obs)
        return self._beliefs(frames, clip, self._remembered(frames, clip))

    def roll(self, starts: State, horizon: int) -> Roll:
        """Frames, and what is told of them, without those before."""
        state = flatten(starts, 2)

        def step(action: Tensor, rng: Generator | None) -> State:
            nonlocal state
            state = self.predict(state, action, rng)
            return self.bare(state)

        return step

    def bare(self, state: State) -> State:
        return {name: value for name, value in state.items() if name not in ("past", "acts", "c")}

    def packed(self, state: State) -> State:
        """Nothing."""
        return {}

    # ------------------------------------------------------------------ below

    @property
    def settings(self) -> DiffusionConfig:
        return cast(DiffusionConfig, self.config)

    @property
    def _counted(self) -> int:
        """How far `time` counts: to the whole past, and to 1 where none is kept, for something was done."""
        return max(self.settings.history - 1, 1)

    @property
    def like(self) -> Tensor:
        """What frames are computed as and where."""
        return self.denoiser.frequencies

    def _look(self, obs: Obs) -> Tensor:
        """Pictures, each `... y x c` → frames `... c y x`, 8 bit."""
        check_sizes(obs, self.sees, "")
        size = self.settings.image_size
        seen = [to_uint8(image_in(obs[name], size)) for name in self.sees.obs]
        return torch.cat(seen, dim=1).unflatten(0, obs[self.sees.images()[0]].shape[:-3])

    def _begun(self, frame: Tensor) -> State:
        """The first look, at a frame `b c y x`."""
        b, before = len(frame), self.settings.history - 1
        state = {
            "frame": frame,
            "past": frame.new_zeros(b, before, *frame.shape[1:]),
            "acts": self.like.new_zeros(b, before, self.spec.action),
            "time": torch.zeros(b, dtype=torch.long, device=frame.device),
        }
        if self.ends is None:
            return state
        blank = self.like.new_zeros(b, self.ends.hidden)
        still = signed(frame, self.like)
        seen = self.ends.look(still, still, self.like.new_zeros(b, self.spec.action))
        return state | {"seen": seen, "h": blank, "c": blank}

    def _later(self, state: State, frame: Tensor, action: Tensor) -> State:
        """The belief after an action `b a` that led to a frame `b c y x`, seen or imagined."""
        after = {
            "frame": frame,
            "past": torch.cat([state["past"], state["frame"][:, None]], dim=1)[:, 1:],
            "acts": torch.cat([state["acts"], action[:, None]], dim=1)[:, 1:],
            "time": (state["time"] + 1).clamp_max(self._counted),
        }
        if self.ends is None:
            return after
        seen = self.ends.look(signed(state["frame"], self.like), signed(frame, self.like), action)
        h, c = self.ends.remember(seen, state["h"], state["c"])
        return after | {"seen": seen, "h": h, "c": c}

    def _told(self, state: State) -> tuple[Tensor | None, Tensor | None]:
        """The reward and the chance to go on, `b`; where nothing was done yet, none and certain."""
        if self.ends is None:
            return None, None
        reward, going = self.ends.told(state["h"])
        fresh = state["time"] == 0
        return (
            None if reward is None else reward.masked_fill(fresh, 0.0),
            None if going is None else going.masked_fill(fresh, 1.0),
        )

    # ------------------------------------------------------------------ along a clip

    def _remembered(self, frames: Tensor, clip: Clip) -> State:
        """`seen`, `h` and `c`, `b t+1 d`, along frames `b t+1 c y x`; where an episode begins, as at a first look."""
        if self.ends is None:
            return {}
        x = signed(frames, self.like)
        before, action = torch.cat([x[:, :1], x[:, :-1]], dim=1), F.pad(clip.action, (0, 0, 1, 0))
        if clip.first is not None:
            before = torch.where(clip.first[..., None, None, None], x, before)
            action = action * ~clip.first[..., None]
        rows = self._portion()
        pairs = zip(*(value.flatten(0, 1).split(rows) for value in (before, x, action)), strict=True)
        seen = torch.cat([self.ends.look(*pair) for pair in pairs]).unflatten(0, x.shape[:2])
        h = c = seen.new_zeros(len(seen), self.ends.hidden)
        steps = [(h, c)]
        for t in range(1, clip.length + 1):
            h, c = self.ends.remember(seen[:, t], h, c)
            if clip.first is not None:
                lives = ~clip.first[:, t, None]
                h, c = h * lives, c * lives
            steps.append((h, c))
        hs, cs = (torch.stack(values, dim=1) for values in zip(*steps, strict=True))
        return {"seen": seen, "h": hs, "c": cs}

    def _beliefs(self, frames: Tensor, clip: Clip, memory: State) -> State:
        """States `b t+1 ...` of frames `b t+1 c y x`; what is behind each is a window on them, nothing is copied."""
        before = self.settings.history - 1
        past = torch.cat([torch.zeros_like(frames[:, :1]).expand(-1, before, -1, -1, -1), frames[:, :-1]], dim=1)
        times = torch.arange(clip.length + 1, device=frames.device)
        return {
            "frame": frames,
            "past": past.unfold(1, before, 1).movedim(-1, 2),
            "acts": F.pad(clip.action, (0, 0, before, 0)).unfold(1, before, 1).transpose(2, 3),
            "time": (times - self._began(clip)).clamp_max(self._counted),
        } | memory

    def _denoised(self, frames: Tensor, clip: Clip) -> Tensor:
        """The denoiser's loss on stretches of the clip; the first frame to draw may be any: short pasts are learnt."""
        config, b, device = self.settings, len(frames), frames.device
        n, more = config.history, min(config.rollout, clip.length - 1)
        rows = torch.arange(b, device=device).repeat_interleave(config.windows)[:, None]
        first = torch.randint(1, clip.length - more + 1, (len(rows), 1), device=device)
        times = first + torch.arange(-n, more + 1, device=device)  # r n+k
        at = times.clamp(min=0)
        began = self._began(clip)[rows, at[:, n - 1 : -1]]  # r k, of the frame before each that is drawn
        known = times[:, :-1].unfold(1, n, 1) >= began[..., None]  # r k n
        judged = torch.ones_like(began, dtype=torch.bool) if clip.first is None else ~clip.first[rows, at[:, n:]]
        return self.denoiser.loss(signed(frames[rows, at], self.like), clip.action[rows, at[:, :-1]], known, judged)

    @staticmethod
    def _began(clip: Clip) -> Tensor:
        """When the episode of each time began, `b t+1`."""
        b, t = clip.action.shape[:2]
        if clip.first is None:
            return torch.zeros(b, t + 1, dtype=torch.long, device=clip.action.device)
        times = torch.arange(t + 1, device=clip.first.device)
        return torch.where(clip.first, times, 0).cummax(dim=1).values

    def _portion(self) -> int:
        """Frames at once."""
        return max(1, PIXELS // math.prod(self.size))


def _size(config: DiffusionConfig, sees: Spec) -> tuple[int, int]:
    """Rows and columns of a frame."""
    if config.image_size is not None:
        y = x = config.image_size
    else:
        sizes = {shape[:2] for shape in sees.obs.values()}
        if len(sizes) > 1:
            raise UserError(
                f"the pictures {', '.join(sees.obs)} are of different sizes: set image_size, so that they fit"
            )
        y, x = sizes.pop()
    if y % config.patch or x % config.patch:
        raise UserError(f"patch={config.patch} does not divide frames of {y}×{x} pixels: choose another, or image_size")
    return y, x
