"""`Learns`: what the training loop, checkpoints and the collapse watch know of whatever is taught: a model, or eyes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from torch import Tensor, nn

from innerworld.config import Config, build, override
from innerworld.errors import choose
from innerworld.types import Clip, Spec


class Learns(nn.Module, ABC):
    """A configuration, a world's spec, and a loss. `WorldModel` and `Encoder` are the two kinds; subclass those."""

    Config: ClassVar[type[Config]]
    presets: ClassVar[dict[str, Config]] = {}
    alike: ClassVar[bool] = False  # do impressions of one scene have most in common? The collapse watch looks past it
    sampling: ClassVar[tuple[str, ...]] = ()  # settings of how it draws alone, which what was learnt does not depend on
    restarts: ClassVar[bool] = False  # does it heed a clip's `first` and `past`? Online training needs that

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__()
        self.config = config
        self.spec = spec

    @classmethod
    def sampling_of(cls, config: Config) -> tuple[str, ...]:
        """The settings of how such a one draws, which may change once it is taught."""
        return cls.sampling

    @abstractmethod
    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        """How wrong was I? A scalar, and its named parts (detached scalars)."""

    def prepare(self, clip: Clip) -> None:
        """Called once, before the first step, with its clips: what can be found in closed form (a basis, a scale) goes
        into buffers now. Of several processes each is given its rows (see `team.mean_of_all`), and the buffers of the
        first count."""

    def waits(self) -> bool:
        """Does a part of it still wait for others, which are taught alone first? Until none does, nobody asks which
        parameters get no gradient."""
        return False

    def after_step(self) -> None:
        """Called after every optimiser step: moving-average targets and the like."""

    def rates(self) -> Mapping[str, float]:
        """Factors of the learning rate, by name of a submodule or parameter; of those it lies in the longest counts."""
        return {}

    @abstractmethod
    def impressions(self, clip: Clip) -> Tensor:
        """What is made of each moment of a clip: `b t+1 d`, which probes and the collapse watch read."""

    def tokens(self, clip: Clip) -> Tensor:
        """What a picture of each moment may be drawn from: `b t+1 s d`; the impression, but of eyes their tokens."""
        return self.impressions(clip)[:, :, None]

    def reads(self, stored: Spec) -> list[str]:
        """The sensors of a store that clips to learn from must carry. Raises `UserError` for one that lacks them."""
        return list(stored.only(*self.spec.obs).obs)

    @classmethod
    def actions_in(cls, length: int) -> int:
        """How many actions a clip of that `length` has: it is told in actions, of eyes in frames."""
        return length


L = TypeVar("L", bound=Learns)


def configure(known: Mapping[str, type[Learns]], family: str, preset: str | None, words: Sequence[str]) -> Config:
    """The configuration of a family's preset (none: its defaults), with `key=value` overrides. Raises `UserError`."""
    kind = choose("family", family, known)
    start = choose(f"preset of {family}", preset, kind.presets) if preset else kind.Config()
    return override(start, words)


def construct(known: Mapping[str, type[L]], family: str, values: Mapping[str, Any] | Config, spec: Spec) -> L:
    """Make a learner from its registry name, its configuration (or plain values) and a spec. Raises `UserError`."""
    kind = choose("family", family, known)
    return kind(values if isinstance(values, Config) else build(kind.Config, values, family), spec)
