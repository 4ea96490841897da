"""`Codec`: all that is seen in a moment ↔ one row of tokens, for families that predict pictures.

Each image sensor has a tokenizer of its own (`perception/tokenizer.py`), vectors are brought to deviation 1 and packed
into tokens of the same width. What comes out has about unit variance, as noise has.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerworld.errors import UserError
from innerworld.models.codec_config import CodecConfig, borrow, build_tokenizer
from innerworld.models.standard import Standard
from innerworld.models.tokens import check_sizes, stored_as, to_read
from innerworld.nn.sensors import image_out
from innerworld.perception.tokenizer import Tokenizer
from innerworld.team import mean_of_all, rows_of_all
from innerworld.types import Clip, Obs, Spec

__all__ = ["Codec", "CodecConfig"]

FRAMES = 256
"""Looked at together, where there are many."""
KEPT = 0.99
"""Share of the tokens' means and deviations that a step keeps while they still change."""
REACH = 4.0
"""Deviations from the mean that entries of a vocabulary tell apart, where numbers are made entries."""


class Codec(nn.Module):
    """The sensors of a spec ↔ tokens `s d`: those of each picture, rows first, then those of the vectors.

    `config` is the one to save: it builds the same again without the folder that a tokenizer was borrowed from.
    Raises `UserError` for pictures that patches do not tile, and a tokenizer that cannot be borrowed.
    """

    def __init__(self, config: CodecConfig, spec: Spec) -> None:
        super().__init__()
        self.config, lent = borrow(config, spec)
        self.spec, self.images, self.vectors = spec, spec.images(), spec.vectors()
        made = [build_tokenizer(self.config, spec.only(name)) for name in self.images]
        like = made[0] if made else build_tokenizer(self.config, _picture(self.config))
        self.tokenizers = nn.ModuleList(made)  # in the order of `images`
        self.grids = tuple(tokenizer.grid for tokenizer in made)
        self.width, self.codes = like.width, like.codes
        self.standard = Standard(sum(spec.obs[name][0] for name in self.vectors))
        n = len(self.standard.mean)
        self.s = sum(y * x for y, x in self.grids) + (n if self.codes else math.ceil(n / self.width))
        taught = self.config.kind != "pca" and not self.config.fingerprint
        self._learns = bool(made) and taught and self.config.steps > 0
        self._register()
        if lent is not None:
            for tokenizer in made:
                tokenizer.load_state_dict(lent.state_dict())
            self.whose.copy_(_bytes(self.config.fingerprint))
        self.requires_grad_(self._learns)

    @property
    def settled(self) -> bool:
        """Is it held still? Then there is nothing to learn."""
        return not self._learns or int(self.taught) >= self.config.steps

    # ------------------------------------------------------------------ what is seen ↔ tokens

    @torch.no_grad()
    def look(self, obs: Obs) -> Tensor:
        """Each sensor `... y x c` or `... n` → tokens `... s d`.

        Without gradients: targets must not come to meet guesses. Raises `UserError` for sensors of other sizes,
        and where a borrowed tokenizer's weights were never loaded.
        """
        self._check_whose()
        check_sizes(obs, self.spec, self.config.fingerprint)
        found, lead = [], ()
        for i, (name, tokenizer) in enumerate(self._pairs()):
            tokens = self._coded(name, tokenizer, obs)  # ... s d
            found.append(((tokens - self.shift[i]) / self.spread[i]).flatten(0, -3))
            lead = tokens.shape[:-2]
        if self.vectors:
            numbers = torch.cat([obs[name].float() for name in self.vectors], dim=-1)
            found.append(self._packed(self.standard(numbers.flatten(0, -2))))
            lead = numbers.shape[:-1]
        return torch.cat(found, dim=1).unflatten(0, lead)

    def show(self, tokens: Tensor) -> dict[str, Tensor]:
        """Tokens `b s d` → the sensors: pictures `b y x c` in [0, 1], vectors `b n`."""
        self._check_whose()
        pictures, rest = self._parted(tokens.float())
        shift, spread = self.shift.clone(), self.spread.clone()  # `loss` may move them before the gradient comes back
        shown = {}
        with torch.autocast(tokens.device.type, enabled=False):
            for i, (name, tokenizer) in enumerate(self._pairs()):
                picture = tokenizer.paint(pictures[i] * spread[i] + shift[i])
                shown[name] = image_out(picture.clamp(0, 1), self.spec.obs[name])
        if self.vectors:
            sizes = [self.spec.obs[name][0] for name in self.vectors]
            numbers = rest[..., 0] if self.codes else rest.flatten(1)[:, : sum(sizes)]
            shown |= dict(zip(self.vectors, self.standard.back(numbers).split(sizes, dim=-1), strict=True))
        return shown

    @torch.no_grad()
    def indices(self, tokens: Tensor) -> Tensor:
        """Tokens `b s d` → entries of the vocabulary `b s`. Raises `UserError` where tokens are continuous."""
        self._check_codes()
        pictures, rest = self._parted(tokens)
        found = [
            tokenizer.indices(pictures[i] * self.spread[i] + self.shift[i])
            for i, (_, tokenizer) in enumerate(self._pairs())
        ]
        return torch.cat([*found, self._levels(rest[..., 0])], dim=1)

    @torch.no_grad()
    def lookup(self, indices: Tensor) -> Tensor:
        """Entries `b s` → tokens `b s d`. Raises `UserError` where tokens are continuous."""
        self._check_codes()
        *pictures, rest = indices.split([*(y * x for y, x in self.grids), self._rest], dim=1)
        found = [
            (tokenizer.lookup(pictures[i]) - self.shift[i]) / self.spread[i]
            for i, (_, tokenizer) in enumerate(self._pairs())
        ]
        return torch.cat([*found, self._alone(self._values(rest))], dim=1)

    # ------------------------------------------------------------------ learning

    @torch.no_grad()
    def prepare(self, clip: Clip) -> None:
        """Find what has a closed form in the first batch: where tokenizers begin, deviations of tokens and vectors."""
        self._check_whose()
        if self._learns and rows_of_all(1) > 1:
            raise UserError(
                f"a {self.config.kind} is taught along in one process only: train it first (innerworld train "
                f"{self.config.kind} --data ... --out R) and give codec.checkpoint=R"
            )
        for i, (name, tokenizer) in enumerate(self._pairs()):
            if not self.config.fingerprint:
                tokenizer.prepare(clip)
            if self.config.kind != "pca":
                self._follow(i, self._coded(name, tokenizer, clip.obs).flatten(0, 1), kept=0.0)
        if self.vectors:
            self.standard.see(torch.cat([clip.obs[name].float() for name in self.vectors], dim=-1))

    def loss(self, clip: Clip) -> dict[str, Tensor]:
        """What teaches the tokenizers, to be added up; nothing once they are held still."""
        if self.settled:
            self._told = {}
            return {}
        parts: dict[str, list[Tensor]] = {}
        told: dict[str, list[Tensor]] = {}
        for i, (name, tokenizer) in enumerate(self._pairs()):
            tokens, own, numbers = tokenizer.terms(tokenizer.pictures(clip.obs[name]))
            if self.training:
                self._follow(i, tokens.detach(), KEPT)
            for found, values in ((parts, own), (told, numbers)):
                for key, value in values.items():
                    found.setdefault(f"codec_{key}", []).append(value)
        self._told = {key: torch.stack(values).mean() for key, values in told.items()}
        return {key: torch.stack(values).mean() for key, values in parts.items()}

    def told(self) -> dict[str, Tensor]:
        """Numbers of the last `loss` for the log: how much of the vocabulary is used; nothing once held still."""
        return self._told

    def after_step(self) -> None:
        """Called after every optimiser step: entries follow, and one more step was taught."""
        if self.settled:
            return
        for _, tokenizer in self._pairs():
            tokenizer.after_step()
        self.taught += 1

    # ------------------------------------------------------------------ judging, and what to read

    @torch.no_grad()
    def floor(self, clip: Clip) -> dict[str, float]:
        """PSNR in dB of each picture coded and drawn again: nothing that predicts tokens can do better."""
        errors = dict.fromkeys(self.images, 0.0)
        frames = {name: clip.obs[name].flatten(0, 1) for name in self.spec.obs}
        count = clip.action.shape[0] * (clip.length + 1)
        for i in range(0, count, FRAMES):
            some = {name: value[i : i + FRAMES] for name, value in frames.items()}
            shown = self.show(self.look(some))
            for name in self.images:
                true = some[name].float() / (255 if some[name].dtype == torch.uint8 else 1)
                errors[name] += float((shown[name] - true).square().flatten(1).mean(dim=1).sum())
        return {name: -10 * math.log10(max(error / count, 1e-10)) for name, error in errors.items()}

    def reads(self, stored: Spec, pixels: bool = False) -> list[str]:
        """Which of a store's sensors clips must carry: tokens of a borrowed tokenizer instead of pictures, if it has
        them (`innerworld precompute`). With `pixels` the pictures too. Raises `UserError` where it has only another's.
        """
        own = self.config.fingerprint
        others = {
            name.rpartition("@")[2] for name in stored.obs for image in self.images if name.startswith(f"{image}@")
        }
        if own and others and own not in others:
            raise UserError(
                f"the tokens in the store are of {', '.join(sorted(others))}, this model's tokenizer is {own}: give "
                "codec.checkpoint that one, or run innerworld precompute with this one"
            )
        if own:
            return to_read(self.spec, stored, own, pixels)
        return list(stored.only(*self.spec.obs).obs)

    @torch.no_grad()
    def coded(self, obs: Obs) -> dict[str, Tensor]:
        """Each picture's tokens as its tokenizer gives them, `... s d`, by the name under which a store keeps them."""
        self._check_whose()
        return {stored_as(name, self.config.fingerprint): self._coded(name, own, obs) for name, own in self._pairs()}

    # ------------------------------------------------------------------ its parts

    def _register(self) -> None:
        self.shift: Tensor  # picture d   what is taken off its tokens, and by what they are divided
        self.spread: Tensor
        self.taught: Tensor  # steps
        self.whose: Tensor  # the fingerprint of the weights that are really here
        self.register_buffer("shift", torch.zeros(len(self.images), self.width))
        self.register_buffer("spread", torch.ones(len(self.images), self.width))
        self.register_buffer("taught", torch.zeros((), dtype=torch.long))
        self.register_buffer("whose", _bytes(""))
        self._told: dict[str, Tensor] = {}
        self._known = False  # was the fingerprint looked at?

    @property
    def _rest(self) -> int:
        """Tokens of the vectors."""
        return self.s - sum(y * x for y, x in self.grids)

    def _pairs(self) -> Iterator[tuple[str, Tokenizer]]:
        """The image sensors, and who codes them."""
        for name, tokenizer in zip(self.images, self.tokenizers, strict=True):
            assert isinstance(tokenizer, Tokenizer)
            yield name, tokenizer

    def _coded(self, name: str, tokenizer: Tokenizer, obs: Obs) -> Tensor:
        """A sensor's frames `... y x c` → its own tokens `... s d`, looked up where `obs` has them already."""
        ready = obs.get(stored_as(name, self.config.fingerprint)) if self.config.fingerprint else None
        if ready is not None:
            return ready.float()
        frames = obs[name]
        with torch.autocast(frames.device.type, enabled=False):
            some = [tokenizer.code(tokenizer.pictures(few)) for few in frames.flatten(0, -4).split(FRAMES)]
        return torch.cat(some).unflatten(0, frames.shape[:-3])

    def _parted(self, tokens: Tensor) -> tuple[list[Tensor], Tensor]:
        """Tokens `b s d` of each picture, and those of the vectors."""
        *pictures, rest = tokens.split([*(y * x for y, x in self.grids), self._rest], dim=1)
        return pictures, rest

    @torch.no_grad()
    def _follow(self, i: int, tokens: Tensor, kept: float) -> None:
        """Bring picture i's means and deviations towards those of these tokens `b s d`, of all who share the batch."""
        rows = tokens.flatten(0, 1).float()
        mean = mean_of_all(rows.mean(dim=0))
        spread = mean_of_all((rows - mean).square().mean(dim=0)).sqrt()
        self.shift[i].lerp_(mean, 1 - kept)
        self.spread[i].lerp_(torch.where(spread > 1e-4, spread, 1.0), 1 - kept)

    # Where tokens are entries of a vocabulary, each number of a vector is one, in even steps within REACH deviations.

    def _packed(self, numbers: Tensor) -> Tensor:
        """Numbers `b n` → tokens `b s d`, filled up with zeros."""
        if self.codes:
            return self._alone(self._values(self._levels(numbers)))
        return F.pad(numbers, (0, -numbers.shape[-1] % self.width)).unflatten(-1, (-1, self.width))

    def _alone(self, numbers: Tensor) -> Tensor:
        """Each number a token: `b n` → `b n d`."""
        return F.pad(numbers[..., None], (0, self.width - 1))

    def _levels(self, numbers: Tensor) -> Tensor:
        return ((numbers.clamp(-REACH, REACH) + REACH) / (2 * REACH) * (self.codes - 1)).round().long()

    def _values(self, levels: Tensor) -> Tensor:
        return levels.float() / (self.codes - 1) * (2 * REACH) - REACH

    def _check_codes(self) -> None:
        if not self.codes:
            raise UserError(f"the tokens of {self.config.kind} are continuous: choose codec.kind=fsq or vq")

    def _check_whose(self) -> None:
        """A borrowed tokenizer is never replaced by one of drawn weights."""
        wanted = self.config.fingerprint
        if not wanted or self._known:
            return
        found = bytes(self.whose.tolist()).rstrip(b"\0").decode()
        if not found:
            raise UserError(
                f"the tokenizer {wanted} is missing, its weights are not here: load this model from its checkpoint, or "
                f"give codec.checkpoint={self.config.origin or 'its run'}"
            )
        if found != wanted:
            raise UserError(f"the weights are of the tokenizer {found}, this model was made for {wanted}")
        self._known = True


def _picture(config: CodecConfig) -> Spec:
    """Of a world without pictures, one that tells how wide tokens are."""
    return Spec({"none": (config.image_size or config.patch, config.image_size or config.patch, 4)}, 0)


def _bytes(text: str) -> Tensor:
    """At most 12 characters as numbers."""
    return torch.tensor(list(text.encode().ljust(12, b"\0")), dtype=torch.uint8)
