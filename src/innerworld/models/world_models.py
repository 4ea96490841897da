"""World Models (Ha & Schmidhuber 2018, arXiv 1803.10122): eyes (VAE) and a memory that guesses the next z (MDN-RNN).

A belief is what is seen, z, and what was seen and done before, the memory's h and c. The memory's h guesses a mixture
of normals for each number of the next z. Imagining draws from it, or takes what is likeliest; a temperature says how
wild the draws are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, cast

import torch
from einops import rearrange
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.models.latent_world import lived, looked_at
from innerworld.models.vae import VAE, VAEConfig, draw
from innerworld.nn.distributions import symexp_bins, twohot_loss, twohot_mean
from innerworld.nn.linear import product
from innerworld.nn.lstm import LSTM
from innerworld.nn.mixture import Mixture
from innerworld.nn.mlp import MLP, linear
from innerworld.types import Clip, Obs, Spec, State, each
from innerworld.world import Card, WorldModel, candidates, stack

PORTION = 4096  # states decoded at once to be compared


class WorldModelsConfig(VAEConfig):
    hidden: int = Field(default=256, description="size of the memory's h", ge=1)
    mixtures: int = Field(default=5, description="normals in the mixture of each number of z", ge=1)
    tau: float = Field(default=1.0, description="temperature of what is imagined with draws", gt=0)
    reward: float = Field(default=1.0, description="weight of the reward's loss; 0 leaves its head out", ge=0)
    continues: float = Field(default=1.0, description="weight of the continuation's loss; 0 leaves its head out", ge=0)
    bins: int = Field(default=255, description="two-hot bins of the reward, odd", ge=3)
    vae_steps: int = Field(
        default=0, description="steps that teach the VAE alone; then it is held still. 0: all learn all the time", ge=0
    )
    vae_frames: int = Field(default=0, description="frames of each clip, drawn, that teach the VAE; 0: all", ge=0)
    vae_rate: float = Field(default=0.1, description="the VAE's learning rate, as a fraction of train.lr", gt=0)


class WorldModels(WorldModel):
    """VAE, LSTM and mixture density; with heads for reward and continuation, which a dream to learn in needs.

    State: `z` `b z` (as seen: the mean), `logvar` `b z` (of the normal that z is the mean of, or a draw from), and the
    memory's `h` and `c` `b d`.
    """

    Config = WorldModelsConfig
    restarts = True
    card = Card(name="World Models", predicts="latents", decodes=True, backbone="LSTM", paper="arXiv 1803.10122")
    presets: ClassVar[dict[str, Config]] = {
        # CarRacing's of the paper, to the last parameter: it lets its controller act in the world, not in a dream.
        "paper": WorldModelsConfig(reward=0, continues=0),
        # The same eyes with half the channels, and heads.
        "carracing": WorldModelsConfig(depth=16, vae_frames=4, vae_rate=1),
        # For a laptop's processor and any task: 64×64 pictures seen at half size.
        "small": WorldModelsConfig(image="strided", image_size=32, depth=16, vae_frames=4, vae_rate=1),
    }

    def __init__(self, config: WorldModelsConfig, spec: Spec) -> None:
        if config.bins % 2 == 0:
            raise UserError(f"bins={config.bins}: choose an odd number, so that one of them is 0")
        super().__init__(config, spec)
        self.vae = VAE(config, spec)
        self.memory = MDNRNN(config.z, spec.action, config.hidden, config.mixtures)
        feat = config.z + config.hidden
        self.reward = MLP(feat, config.units, 1, out_dim=config.bins, outscale=0.0) if config.reward else None
        self.continues = MLP(feat, config.units, 1, out_dim=1) if config.continues else None
        self.tau = config.tau
        self.age: Tensor  # optimiser steps so far
        self.register_buffer("age", torch.zeros((), dtype=torch.long))
        self.bins: Tensor
        self.register_buffer("bins", symexp_bins(config.bins), persistent=False)

    # ------------------------------------------------------------------ the five verbs

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        if (state is None) != (action is None):
            raise UserError("encode: give both the last state and the action since, or neither")
        mean, logvar = self.vae.encode(self.vae.ready(obs))
        h = c = mean.new_zeros(mean.shape[0], self.memory.hidden)
        if state is not None and action is not None:
            h, c = self.memory(state, action)
        return {"z": mean, "logvar": logvar, "h": h, "c": c}

    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        """With `rng` a draw of z at the model's temperature `tau` (§ 2.2), else the mean of the likeliest normals."""
        h, c = self.memory(state, action)
        guess = self.memory.guess(h)
        z, logvar = (guess.mode(), guess.spread()) if rng is None else guess.sample(rng, self.tau)
        return {"z": z, "logvar": logvar, "h": h, "c": c}

    def decode(self, state: State) -> dict[str, Tensor]:
        told = self.vae.decode(state["z"])
        feat = self.features(state)
        if self.reward is not None:
            told["reward"] = twohot_mean(self.reward(feat), self.bins)
        if self.continues is not None:
            told["continue"] = self._goes_on(self.continues, feat)
        return told

    def energy(self, state: State, goal: State) -> Tensor:
        """How far what is decoded would have to be moved to look like the goal (`VAE.place`), as in RSSM.

        The paper has no goals. Memories are left out: a goal has none.
        """
        return (self._place(state) - self._place(goal)).square().sum(dim=-1)

    def features(self, state: State) -> Tensor:
        """What the paper's controller reads: z and h, `b d`."""
        return torch.cat([state["z"], state["h"]], dim=-1)

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        if self._learners() == (True, False):  # nothing needs to be believed along the clip
            parts = self._look(self._frames(clip))[2]
            return torch.stack(list(parts.values())).sum(), each(Tensor.detach, parts)
        total, parts, _ = self.study(clip)
        return total, parts

    def study(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor], State]:
        """The VAE's loss on frames (A.1), and the memory's negative log-likelihood of the next z (A.2), in one pass.

        The memory reads draws of z and gives no gradient to the VAE. With a past, the times from 1 on are judged.
        """
        config = cast(WorldModelsConfig, self.config)
        eyes, memory = self._learners()
        with torch.set_grad_enabled(eyes and torch.is_grad_enabled()):
            z, logvar, parts = self._see(clip, judge=eyes)
        total = torch.stack(list(parts.values())).sum() if parts else z.new_zeros(())
        with torch.set_grad_enabled(memory and torch.is_grad_enabled()):
            beliefs = self._follow(z.detach(), logvar.detach(), clip)
            weighed = self._judge(beliefs, clip)
        if memory:
            weight = {"mdn": 1.0, "reward": config.reward, "continue": config.continues}
            total = total + torch.stack([weight[name] * part for name, part in weighed.items()]).sum()
        return total, each(Tensor.detach, parts | weighed), beliefs

    def after_step(self) -> None:
        self.age.add_(1)

    def rates(self) -> Mapping[str, float]:
        """The paper teaches its VAE with 1e-4, its memory with 1e-3."""
        return {"vae": cast(WorldModelsConfig, self.config).vae_rate}

    # ------------------------------------------------------------------ faster, and smaller

    def prospects(self, state: State) -> tuple[Tensor, Tensor]:
        if self.reward is None:
            return super().prospects(state)  # which says so
        feat = self.features(state)
        reward = twohot_mean(self.reward(feat), self.bins)
        return reward, torch.ones_like(reward) if self.continues is None else self._goes_on(self.continues, feat)

    def watch(self, clip: Clip) -> State:
        flat = {name: value.flatten(0, 1) for name, value in looked_at(clip).items()}
        mean, logvar = (x.unflatten(0, (len(clip.action), -1)) for x in self.vae.encode(self.vae.ready(flat)))
        return self._follow(mean, logvar, clip)

    def imagine(self, state: State, actions: Tensor) -> State:
        """As in `WorldModel`, of `z` and `h` alone; the actions' share of the memory's inputs is had all at once."""
        b, n, _, _ = actions.shape
        past = candidates({name: state[name] for name in ("z", "h", "c")}, n)
        z, h, c = past["z"], past["h"], past["c"]
        push = self.memory.push_action(rearrange(actions, "b n h a -> h (b n) a"))
        states = []
        for t in range(len(push)):
            h, c = self.memory.lstm(push[t] + self.memory.push_z(z), h, c)
            z = self.memory.likeliest(h)
            states.append({"z": z, "h": h})
        return each(lambda value: value.unflatten(0, (b, n)), stack(states))

    def packed(self, state: State) -> State:
        """Half precision, and no `logvar`, which nobody needs to go on."""
        return {name: state[name].half() for name in ("z", "h", "c")}

    def unpacked(self, state: State) -> State:
        return each(Tensor.float, state)

    # ------------------------------------------------------------------ below

    def _learners(self) -> tuple[bool, bool]:
        """Does the VAE learn, does the memory?"""
        steps = cast(WorldModelsConfig, self.config).vae_steps
        alone = bool(self.age < steps)
        return alone or steps == 0, not alone

    def _see(self, clip: Clip, judge: bool) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Draws of z and their log variances, `b t z`, of all frames; and the VAE's loss, if that is asked for."""
        few = cast(WorldModelsConfig, self.config).vae_frames
        every = {name: value.flatten(0, 1) for name, value in looked_at(clip).items()}
        if judge and not few:
            z, logvar, parts = self._look(every)
        else:
            parts = self._look(self._frames(clip))[2] if judge else {}
            with torch.no_grad():
                mean, logvar = self.vae.encode(self.vae.ready(every))
                z = draw(mean, logvar)
        b = len(clip.action)
        return z.unflatten(0, (b, -1)), logvar.unflatten(0, (b, -1)), parts

    def _look(self, frames: Obs) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Draws of z and their log variances, `n z`, of frames `n ...`; and the VAE's loss on them."""
        ready = self.vae.ready(frames)
        mean, logvar = self.vae.encode(ready)
        z = draw(mean, logvar)
        return z, logvar, self.vae.losses(ready, mean, logvar, z)

    def _frames(self, clip: Clip) -> Obs:
        """Those that teach the VAE, `n ...`: all, or as many of each clip, drawn anew each time."""
        seen, few = looked_at(clip), cast(WorldModelsConfig, self.config).vae_frames
        b, t = next(iter(seen.values())).shape[:2]
        if not few or few >= t:
            return {name: value.flatten(0, 1) for name, value in seen.items()}
        times = torch.rand(b, t, device=clip.action.device).argsort(dim=1)[:, :few]  # b few
        rows = torch.arange(b, device=times.device)[:, None]
        return {name: value[rows, times].flatten(0, 1) for name, value in seen.items()}

    def _follow(self, z: Tensor, logvar: Tensor, clip: Clip) -> State:
        """Beliefs `b t+1 ...` along z, of all times or, with a past, of those after it. A new episode forgets."""
        h = c = z.new_zeros(len(z), self.memory.hidden)
        if clip.past is not None:
            past = self.unpacked(clip.past)
            h, c = past["h"], past["c"]
            z = torch.cat([past["z"][:, None], z], dim=1)
        push = self.memory.push_z(z[:, :-1]) + self.memory.push_action(clip.action)  # b t 4d
        steps = [(h, c)]
        for t in range(clip.length):
            h, c = self.memory.lstm(push[:, t], h, c)
            if clip.first is not None:
                lives = ~clip.first[:, t + 1, None]
                h, c = h * lives, c * lives
            steps.append((h, c))
        hs, cs = (torch.stack(values, dim=1) for values in zip(*steps, strict=True))
        beliefs = {"z": z, "h": hs, "c": cs}
        return beliefs | {"logvar": logvar} if clip.past is None else beliefs  # of which a past has none

    def _judge(self, beliefs: State, clip: Clip) -> dict[str, Tensor]:
        """What the memory and the heads say of each step: negative log-likelihood per number of z, and the heads'."""
        after = each(lambda value: value[:, 1:], beliefs)
        feat = self.features(after)
        surprise = -self.memory.guess(after["h"]).log_prob(after["z"].detach()).mean(dim=-1)
        parts = {"mdn": lived(surprise, clip)}
        if self.reward is not None:  # reward[t] comes with obs[t+1]
            parts["reward"] = lived(twohot_loss(self.reward(feat), clip.reward.float(), self.bins), clip)
        if self.continues is not None:
            logit = self.continues(feat).squeeze(-1)
            error = F.binary_cross_entropy_with_logits(logit, 1 - clip.terminated.float(), reduction="none")
            parts["continue"] = lived(error, clip)
        return parts

    @staticmethod
    def _goes_on(head: nn.Module, feat: Tensor) -> Tensor:
        return torch.sigmoid(head(feat)).squeeze(-1)

    def _place(self, state: State) -> Tensor:
        """`VAE.place`, in portions: 10⁵ imagined states at once would take gigabytes."""
        return torch.cat([self.vae.place(z) for z in state["z"].split(PORTION)])


class MDNRNN(nn.Module):
    """z and action `b a` → memory → a mixture of normals for each number of the next z (Graves 2013; § 2.2, A.2)."""

    def __init__(self, z: int, action: int, hidden: int, mixtures: int) -> None:
        super().__init__()
        self.z, self.hidden, self.mixtures = z, hidden, mixtures
        self.lstm = LSTM(z + action, hidden)
        self.out = linear(hidden, 3 * z * mixtures)

    def forward(self, state: State, action: Tensor) -> tuple[Tensor, Tensor]:
        """The next h and c, `b d` each."""
        return self.lstm(self.push_z(state["z"]) + self.push_action(action), state["h"], state["c"])

    def push_z(self, z: Tensor) -> Tensor:
        """What z `... z` adds to the gates: `... (4 d)`."""
        return product(z, self.lstm.inputs.weight[:, : self.z])

    def push_action(self, action: Tensor) -> Tensor:
        """What actions `... a` add, with the bias: `... (4 d)`. Beyond [-1, 1] they are cut, as a world's are."""
        action = action / action.detach().abs().clamp(min=1)
        return product(action, self.lstm.inputs.weight[:, self.z :], self.lstm.inputs.bias)

    def guess(self, h: Tensor) -> Mixture:
        return Mixture.read(self.out(h), self.mixtures)

    def likeliest(self, h: Tensor) -> Tensor:
        """The mode of `guess`, for which the deviations need not be computed."""
        needed = 2 * self.z * self.mixtures
        raw = product(h, self.out.weight[:needed], self.out.bias[:needed]).unflatten(-1, (2, self.z, self.mixtures))
        which = raw[..., 0, :, :].argmax(dim=-1, keepdim=True)
        return raw[..., 1, :, :].gather(-1, which).squeeze(-1)
