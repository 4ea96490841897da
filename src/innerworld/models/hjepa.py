"""A hierarchy of two joint-embedding models: steps below, learned macro-actions above (HWM, arXiv 2604.03208).

Both levels predict the same latents. The level above is a world model of its own, whose observations are latents and
whose actions are codes of several actions in a row: it looks far ahead in few steps, and the first latent that it
foresees is the goal of the level below.
"""

from __future__ import annotations

from typing import ClassVar, cast

import torch
from pydantic import Field
from torch import Generator, Tensor, nn

from innerworld import checkpoint
from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.models.jepa import JEPA, JEPAConfig
from innerworld.models.predictors import MLPPredictor
from innerworld.nn.linear import Linear
from innerworld.nn.mlp import maybe_no_inputs
from innerworld.team import mean_of_all
from innerworld.types import Clip, Obs, Spec, State
from innerworld.world import Card, WorldModel

QUANTILES = (0.02, 0.98)  # of the codes that occur: what a planner may choose from
KEPT = 0.99  # share of the bounds that stays at each step


class AboveConfig(Config):
    steps: int = Field(default=8, description="actions in a macro-action", ge=1)
    code: int = Field(default=8, description="size of a macro-action's code", ge=1)
    code_hidden: int = Field(default=32, description="width of the two hidden layers that make the code", ge=1)
    hidden: int = Field(default=256, description="width of the predictor's hidden layers", ge=1)
    depth: int = Field(default=3, description="its hidden layers", ge=1)


class HJEPAConfig(Config):
    below: str | None = Field(
        default=None, description="run of a trained jepa: the level below, frozen; none: it is taught along"
    )
    level1: JEPAConfig = Field(default=JEPAConfig(), description="the level below, where `below` names none")
    frozen: bool = Field(default=False, description="only the level above learns")
    above: AboveConfig = Field(default=AboveConfig(), description="the level above")
    origin: str = Field(default="", description="where the level below came from; only told")


class Above(WorldModel):
    """The level above: sensor `z` is a latent of the level below, an action in [-1, 1] is the code of a macro-action.

    The codes that occurred in training, from their 2nd to their 98th percentile, are [-1, 1].
    """

    Config = AboveConfig
    card = Card(name="HWM, level 2", predicts="latents", decodes=False, backbone="MLP", paper="arXiv 2604.03208")

    def __init__(self, config: AboveConfig, spec: Spec, action: int) -> None:
        super().__init__(config, spec)
        layers: list[nn.Module] = []
        width = config.steps * action
        for _ in range(2):
            layers += [Linear(width, config.code_hidden), nn.SiLU()]
            width = config.code_hidden
        self.coder = nn.Sequential(*layers, Linear(width, config.code))
        self.predictor = MLPPredictor(spec.obs["z"][0], config.code, config.hidden, config.depth)
        self.register_buffer("low", torch.full((config.code,), -1.0))
        self.register_buffer("high", torch.full((config.code,), 1.0))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))
        self.low: Tensor
        self.high: Tensor
        self.seen: Tensor

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        return {"z": obs["z"]}

    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        return {"z": self.predictor(state["z"], self._unscaled(action))}

    def imagine(self, state: State, actions: Tensor) -> State:
        return {"z": self.predictor.branch(state, self._unscaled(actions))}

    def energy(self, state: State, goal: State) -> Tensor:
        """Mean squared distance of the latents, as below."""
        return (state["z"] - goal["z"]).square().mean(dim=-1)

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        """Squared error of the latent after each macro-action, from true latents and imagined in a row.

        The clip's actions are macro-actions, each the actions below one after another: `b m (steps a)`.
        """
        z, code = clip.obs["z"], self.coder(clip.action)  # b m+1 d, b m k
        if self.training:
            self._widen(code.detach())
        single = (self.predictor(z[:, :-1], code) - z[:, 1:]).square().mean()
        parts = {"above": single}
        if clip.length > 1:
            imagined = self.predictor.branch({"z": z[:, 0]}, code[:, None])[:, 0]
            parts["above_rollout"] = (imagined - z[:, 1:]).square().mean()
        return torch.stack(list(parts.values())).sum(), {name: part.detach() for name, part in parts.items()}

    def _unscaled(self, action: Tensor) -> Tensor:
        return self.low + (action + 1) / 2 * (self.high - self.low)

    @torch.no_grad()
    def _widen(self, code: Tensor) -> None:
        code = code.flatten(0, 1).to(self.low.dtype)  # quantiles are not for bfloat16
        share = torch.tensor(QUANTILES, dtype=code.dtype, device=code.device)
        now = mean_of_all(torch.quantile(code, share, dim=0))
        kept = KEPT if self.seen else 0.0
        for bound, value in zip((self.low, self.high), now, strict=True):
            bound.lerp_(value, 1 - kept)
        self.seen += 1


class HJEPA(WorldModel):
    """A JEPA, and `above` it a world model over its latents. As a world model it is the JEPA; an agent may ask both.

    Learns from clips of at least one macro-action. Raises `UserError` for shorter ones.
    """

    Config = HJEPAConfig
    card = Card(
        name="HWM / hierarchical JEPA",
        predicts="latents",
        decodes=False,
        backbone="MLP, two levels",
        paper="arXiv 2604.03208",
    )
    presets: ClassVar[dict[str, Config]] = {
        "small": HJEPAConfig(level1=cast(JEPAConfig, JEPA.presets["small"])),
        # The paper's maze: macro-actions of 10 steps, codes of 8 from two hidden layers of 32.
        "hwm": HJEPAConfig(level1=cast(JEPAConfig, JEPA.presets["pldm"]), above=AboveConfig(steps=10)),
    }

    def __init__(self, config: HJEPAConfig, spec: Spec) -> None:
        config, level1 = _below(config, spec)
        super().__init__(config, spec)
        self.level1 = level1.requires_grad_(False) if config.frozen else level1  # its eyes may be frozen by themselves
        latent = cast(JEPAConfig, level1.config).latent
        steps, code = config.above.steps, config.above.code
        with maybe_no_inputs():
            self.above = Above(config.above, Spec({"z": (latent,)}, code), spec.action)
        self._steps = steps
        self.train()

    def train(self, mode: bool = True) -> HJEPA:
        super().train(mode)
        self.level1.train(mode and not cast(HJEPAConfig, self.config).frozen)
        return self

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        return self.level1.encode(obs, state, action)

    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        return self.level1.predict(state, action, rng)

    def energy(self, state: State, goal: State) -> Tensor:
        return self.level1.energy(state, goal)

    def features(self, state: State) -> Tensor:
        return self.level1.features(state)

    def imagine(self, state: State, actions: Tensor) -> State:
        return self.level1.imagine(state, actions)

    def watch(self, clip: Clip) -> State:
        return self.level1.watch(clip)

    def after_step(self) -> None:
        self.level1.after_step()

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        """The JEPA's loss unless it is frozen, and the level above's on its detached latents, from a random start."""
        m = clip.length // self._steps
        if not m:
            raise UserError(
                f"clips of {clip.length} actions hold no macro-action of {self._steps}: give a greater --length"
            )
        if cast(HJEPAConfig, self.config).frozen:
            with torch.no_grad():
                z = self.level1.see(clip)
            total, parts = z.new_zeros(()), {}
        else:
            z = self.level1.see(clip)
            total, parts = self.level1.judge(z, clip.action)
        start = int(torch.randint(clip.length - m * self._steps + 1, ()))
        stop = start + m * self._steps
        latents = z.detach()[:, start : stop + 1 : self._steps]  # b m+1 d
        macros = clip.action[:, start:stop].unflatten(1, (m, self._steps)).flatten(2)  # b m (steps a)
        nothing = macros.new_zeros(macros.shape[:2])
        above, its = self.above.loss(Clip({"z": latents}, macros, nothing, nothing))
        return total + above, parts | its


def _below(config: HJEPAConfig, spec: Spec) -> tuple[HJEPAConfig, JEPA]:
    """The level below, and the configuration that builds it again without `below`."""
    if config.below is None:
        level1, told = JEPA(config.level1, spec), {}
    else:
        presets = [cast(HJEPAConfig, preset).level1 for preset in HJEPA.presets.values()]
        if config.level1 not in (JEPAConfig(), *presets):
            raise UserError("model.below says what the level below is: leave out model.level1, or below")
        level1 = checkpoint.load(config.below, kind=JEPA)
        if level1.spec != spec:
            raise UserError(f"{config.below} was taught with {level1.spec}, here is {spec}: choose other sensors")
        told = {"below": None, "origin": config.below, "frozen": True}
    return config.model_copy(update={"level1": level1.config, **told}), level1
