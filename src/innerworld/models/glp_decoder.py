"""g of GLP: from a latent to a frame by flow matching, each frame alone or in PAN's sliding window of two chunks.

The window (Causal Swin-DPM, PAN, arXiv 2511.09057): a clean frame that is a little noised, then two chunks, the older
half as noisy as the newer. In as many steps as make the older one clean the newer gets half way; then the older leaves,
and fresh noise comes in. A chunk is what follows one action, here one frame (in PAN ten latent frames). It sees what is
before it and never the next action.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from innerworld.models.codec import Codec
from innerworld.models.glp_config import FlowDecoderConfig
from innerworld.nn.flow import Flow, LevelVector, noise_like, sample
from innerworld.nn.linear import Linear
from innerworld.nn.space_time import Memory, SpaceTime, SpaceTimeConfig
from innerworld.types import State
from innerworld.world import choose_rows

WINDOW = 3  # frames: the clean one, the older chunk, the newer one

Trail = list[Memory]
"""What the next chunk sees at each of its steps: the clean frame, and this chunk at that step."""


class FlowDecoder(nn.Module):
    """A latent and noise → a frame's tokens. r rows, f frames, s tokens of w numbers, d a latent."""

    def __init__(self, config: FlowDecoderConfig, latent: int, codec: Codec) -> None:
        super().__init__()
        self.config, self.s, self.width, self.latent = config, codec.s, codec.width, latent
        self.flow = Flow(prediction=config.predicts)
        windowed = config.kind == "window"
        net = SpaceTimeConfig(
            dim=config.dim,
            depth=config.depth,
            heads=config.heads,
            window=WINDOW if windowed else 1,
            time_every=1 if windowed else config.depth,
        )
        beside = codec.s - sum(y * x for y, x in codec.grids)
        self.guess = Linear(latent, codec.s * codec.width)  # of each place, straight from the latent
        self.into = Linear(2 * codec.width, config.dim)
        self.level = LevelVector(config.steer)
        self.told = nn.Sequential(Linear(latent, config.steer), nn.SiLU(), Linear(config.steer, config.steer))
        self.net = SpaceTime(net, codec.grids, config.steer, beside)
        self.out = Linear(config.dim, codec.width)

    def forward(self, x: Tensor, level: Tensor, latent: Tensor) -> Tensor:
        """Frames `r f s w` at levels `r f` of noise (1 is clean) and their latents `r f d` → what the network says."""
        return self.out(self.net(self._tokens(x, latent), self._steered(level, latent)))

    # ------------------------------------------------------------------ learning

    def loss(self, latents: Tensor, frames: Tensor, real: Tensor) -> Tensor:
        """The flow matching loss of latents `r m d` of frames `r m+1 s w`, of which the first only goes before.

        `real` `r m`: which steps lie within an episode; of the others nothing counts.
        """
        if self.config.kind == "window":
            return self._window_loss(latents, frames, real)
        return self._frame_loss(latents.flatten(0, 1), frames[:, 1:].flatten(0, 1), real.flatten())

    def _frame_loss(self, latents: Tensor, frames: Tensor, real: Tensor) -> Tensor:
        """Each frame alone, at a level of its own: E of the error over levels from 0 to 1."""
        latents, frames, real = self._some(latents, frames, real)
        level = torch.rand(len(frames), 1, device=frames.device)
        return self._error(frames[:, None], level, latents[:, None], real[:, None])

    def _window_loss(self, latents: Tensor, frames: Tensor, real: Tensor) -> Tensor:
        """PAN's two levels: the newer chunk from 0 to ½, the older ½ above it; a first chunk, alone, from 0 to 1."""
        f = min(WINDOW, frames.shape[1])
        windows = frames.unfold(1, f, 1).permute(0, 1, 4, 2, 3).flatten(0, 1)  # (r n) f s w
        told = latents.unfold(1, f - 1, 1).transpose(2, 3).flatten(0, 1)  # (r n) f-1 d
        lived = real.unfold(1, f - 1, 1).flatten(0, 1)
        told, windows, lived = self._some(told, windows, lived)
        drawn, coin = torch.rand(2, len(windows), 1, device=frames.device)
        alone = coin < 0.5 if f == WINDOW else torch.ones_like(coin).bool()
        older, newer = torch.where(alone, drawn, (1 + drawn) / 2), drawn / 2
        level = torch.cat([torch.full_like(drawn, 1 - self.config.still), older, newer], dim=1)[:, :f]
        counts = torch.cat([torch.zeros_like(alone), lived[:, :1], lived.all(dim=1, keepdim=True) & ~alone], dim=1)
        told = torch.cat([torch.zeros_like(told[:, :1]), told], dim=1)
        return self._error(windows, level, told, counts[:, :f])

    def _some(self, *rows: Tensor) -> tuple[Tensor, ...]:
        """As many of the rows as are drawn in a step."""
        most = self.config.frames
        if not most or len(rows[0]) <= most:
            return rows
        chosen = torch.randperm(len(rows[0]), device=rows[0].device)[:most]
        return tuple(each[chosen] for each in rows)

    def _error(self, frames: Tensor, level: Tensor, latents: Tensor, counts: Tensor) -> Tensor:
        """The weighted squared error at levels `r f`, the mean over the frames that count, `r f`."""
        noise = torch.randn_like(frames)
        said = self(self.flow.mix(frames, noise, level), level, latents)
        error = (said - self.flow.target(frames, noise, level)).square().mean(dim=(-2, -1))
        return (self.flow.weight(level) * error * counts).sum() / counts.sum().clamp(min=1)

    # ------------------------------------------------------------------ drawing: each frame alone

    def draw(self, latent: Tensor, rng: Generator | None = None) -> Tensor:
        """Latents `r d` → tokens `r s w`. Without a generator from zeros, the middle of all noise."""

        def denoise(x: Tensor, level: Tensor) -> Tensor:
            said = self(x[:, None], level[:, None], latent[:, None])[:, 0]
            return self.flow.clean(said, x, level)

        return sample(self.flow, denoise, self._noise(latent, rng), self.config.steps)

    # ------------------------------------------------------------------ drawing: PAN's window

    def begin(self, frame: Tensor) -> State:
        """The window where a frame `r s w` was seen: nothing is being drawn."""
        r, nothing = len(frame), torch.zeros_like(frame)
        return {
            "frame": frame,  # clean: what is shown
            "told": frame.new_zeros(r, self.latent),  # the latent that it is drawn from
            "half": nothing,  # what it was half way
            "still": nothing,  # the frame before it, a little noised
            "seen": torch.ones(r, dtype=torch.bool, device=frame.device),  # it was not drawn
        }

    def slide(
        self, window: State, latent: Tensor, rng: Generator | None = None, trail: Trail | None = None
    ) -> tuple[State, Trail]:
        """Draw the chunk after the window's for the latent `r d`; `trail` is what drawing the window's left.

        Without a trail it is computed again: the same to rounding.
        """
        seen = window["seen"]
        frame = window["frame"]
        still = self.flow.mix(frame, noise_like(frame, rng), self._at(1 - self.config.still, frame))
        fresh = self._noise(latent, rng)
        half: Tensor | None = None
        if not bool(seen.all()):
            trail = self._finish(window)[1] if trail is None else trail
            half = self._half(fresh, latent, trail)
        if bool(seen.any()):
            steps = self.config.steps // 2
            alone = self._half(fresh, latent, [self._kept(still)] * steps)
            half = alone if half is None else choose_rows(seen, {"half": alone}, {"half": half})["half"]
        assert half is not None
        after = {"told": latent, "half": half, "still": still, "seen": torch.zeros_like(seen)}
        frame, trail = self._finish(after)
        return {"frame": frame, **after}, trail

    def _half(self, x: Tensor, latent: Tensor, trail: Trail) -> Tensor:
        """Noise `r s w` → half way, beside what is before it in each step."""
        for i, memory in enumerate(trail):
            tokens, steer = self._frame(x, latent, self._level(i, x))
            x = self._nearer(x, self.net.peek(tokens, steer, memory), i)
        return x

    def _finish(self, window: State) -> tuple[Tensor, Trail]:
        """From half way to clean, and the trail of it for the chunk that comes."""
        x, trail = window["half"], []
        before = self._kept(window["still"])
        for i in range(self.config.steps // 2, self.config.steps):
            tokens, steer = self._frame(x, window["told"], self._level(i, x))
            out, memory = self.net.keep(tokens, steer, before)
            trail.append(memory)
            x = self._nearer(x, out, i)
        return x, trail

    def _kept(self, still: Tensor) -> Memory:
        """The memory of the frame before alone; no latent tells it."""
        nothing = still.new_zeros(len(still), self.latent)
        tokens, steer = self._frame(still, nothing, self._at(1 - self.config.still, still))
        return self.net.keep(tokens, steer, self.net.blank(len(still), still))[1]

    # ------------------------------------------------------------------ below

    def _frame(self, x: Tensor, latent: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """One frame `r s w` as the transformer wants it, and what steers it."""
        return self._tokens(x[:, None], latent[:, None])[:, 0], self._steered(level, latent)

    def _tokens(self, x: Tensor, latent: Tensor) -> Tensor:
        """Each token beside what the latent says of its place: `r f s w` → `r f s dim`."""
        guess = self.guess(latent).unflatten(-1, (self.s, self.width))
        return self.into(torch.cat([x, guess], dim=-1))

    def _steered(self, level: Tensor, latent: Tensor) -> Tensor:
        """What steers the blocks: the level of noise, and the latent."""
        return self.level(level) + self.told(latent)

    def _nearer(self, x: Tensor, out: Tensor, i: int) -> Tensor:
        """The i-th step from noise to clean, by what came out of the transformer."""
        level = self._level(i, x)
        clean = self.flow.clean(self.out(out), x, level)
        return clean if i + 1 == self.config.steps else self.flow.moved(x, clean, level, self._level(i + 1, x))

    def _level(self, i: int, like: Tensor) -> Tensor:
        return self._at(i / self.config.steps, like)

    def _at(self, level: float, like: Tensor) -> Tensor:
        return torch.full((len(like),), level, device=like.device)

    def _noise(self, like: Tensor, rng: Generator | None) -> Tensor:
        return noise_like(like.new_zeros(len(like), self.s, self.width), rng)
