"""V-JEPA 2 (arXiv 2506.09985) and 2.1 (arXiv 2603.14482): V-JEPA whose tokens know their place by rotation.

2.1 adds, each an option here: a loss on what was seen too (`dense`), guesses at four depths of the encoder
(`vit.levels`), an embedding of its own for pictures (`vit.image_patch`), true rotations (`vit.pairing`) and positions
stretched to one grid (`vit.rope_grid`).
"""

from __future__ import annotations

from typing import ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.nn.patches import take
from innerworld.nn.rotary import grid_positions
from innerworld.nn.vision import SIZES, Grid, ViTConfig, sized
from innerworld.perception.masks import Tubes, TubesConfig
from innerworld.perception.predictor import Predictor, PredictorConfig
from innerworld.perception.sight import SightConfig
from innerworld.perception.slow_copy import SlowCopy, SlowCopyConfig, spread
from innerworld.types import Clip, Spec

SHORT, LONG = TubesConfig(blocks=8, scale=(0.15, 0.15)), TubesConfig(blocks=2, scale=(0.7, 0.7))
LEVELS = {12: (2, 5, 8, 11), 24: (5, 11, 17, 23), 40: (9, 19, 29, 39), 48: (11, 23, 37, 47)}  # V-JEPA 2.1, by depth


class VJEPA2Config(SlowCopyConfig):
    vit: ViTConfig = Field(default=ViTConfig(tubelet=2), description="the encoder")
    predictor: PredictorConfig = Field(
        default=PredictorConfig(mask_tokens=2, zero_tokens=True), description="what guesses from its tokens"
    )
    masks: tuple[TubesConfig, ...] = Field(default=(SHORT, LONG), description="each hides its own part of every film")
    mask_index: tuple[int, ...] = Field(
        default=(0, 1), description="which mask token each mask has (the released trainer: 0 for all)"
    )
    aspect: tuple[float, float] = Field(default=(0.75, 1.35), description="the window's width by its height")
    momentum: tuple[float, float] = Field(default=(0.99925, 0.99925), description="of the slow copy, first and last")
    momentum_steps: int = Field(default=252_000, description="steps over which the momentum changes", ge=1)
    dense: float = Field(
        default=0.0, description="weight of the error on seen tokens, by nearness to hidden ones", ge=0
    )
    dense_ramp: tuple[int, int] = Field(default=(15_000, 30_000), description="steps between which that weight rises")
    picture_weight: float = Field(
        default=0.5, description="image_patch: share of the loss on single frames, shown as pictures", ge=0, le=1
    )


def _published(size: str, side: int) -> VJEPA2Config:
    """Table 9 of the paper, masks and mask tokens as the released trainer has them."""
    return VJEPA2Config(
        sight=SightConfig(size=side, pixels="imagenet"),
        vit=sized(size, tubelet=2, pairing="vjepa2"),
        masks=tuple(mask.model_copy(update={"truncate": "prefix"}) for mask in (SHORT, LONG)),
        predictor=PredictorConfig(mask_tokens=2, zero_tokens=True),
    )


def _published_2_1(size: str, depth: int) -> VJEPA2Config:
    """V-JEPA 2.1; B and L were distilled from G and have a predictor of 12 blocks."""
    config = _published(size, 384)
    change = {"pairing": "standard", "rope_grid": 16, "levels": LEVELS[SIZES[size].depth], "image_patch": True}
    return config.model_copy(
        update={
            "vit": config.vit.model_copy(update=change),
            "predictor": config.predictor.model_copy(update={"depth": depth}),
            "dense": 0.5,
        }
    )


class VJEPA2(SlowCopy):
    """A video ViT that sees what no tube hides, a predictor that guesses the tubes, a slow copy of the ViT as judge.

    `encode` takes frames or films of any size that patches tile and gives the slow copy's tokens of its last level; a
    frame is shown as a still film, or as a picture where pictures have their embedding. Frames at a clip's end that
    fill no tubelet are not looked at. Raises `UserError` for clips shorter than a tubelet, pictures that patches do not
    tile and masks that leave no context.
    """

    Config = VJEPA2Config
    presets: ClassVar[dict[str, Config]] = {
        "tiny": VJEPA2Config(
            vit=ViTConfig(dim=96, depth=6, heads=4, mlp=384, patch=8, tubelet=2),
            predictor=PredictorConfig(dim=48, depth=3, heads=4, mlp=192, mask_tokens=2, zero_tokens=True),
            momentum=(0.99, 1.0),
            momentum_steps=5_000,
        ),
        "tiny-2.1": VJEPA2Config(
            vit=ViTConfig(
                dim=96, depth=6, heads=4, mlp=384, patch=8, tubelet=2, rope_grid=8, levels=(2, 5), image_patch=True
            ),
            predictor=PredictorConfig(dim=48, depth=3, heads=4, mlp=192, mask_tokens=2, zero_tokens=True),
            momentum=(0.99, 1.0),
            momentum_steps=5_000,
            dense=0.5,
            dense_ramp=(0, 0),
        ),
        "vitl16": _published("large", 256),
        "vith16": _published("huge", 256),
        "vitg16": _published("giant22", 256),
        "vitg16-384": _published("giant22", 384),
        "vitb16-2.1": _published_2_1("base", 12),
        "vitl16-2.1": _published_2_1("large", 12),
        "vitg16-2.1": _published_2_1("giant22", 24),
        "vitG16-2.1": _published_2_1("gigantic", 24),
    }

    def __init__(self, config: VJEPA2Config, spec: Spec) -> None:
        if len(config.mask_index) != len(config.masks):
            raise UserError(f"{len(config.masks)} masks need as many entries of mask_index, got {config.mask_index}")
        super().__init__(config, spec)
        self.masks = [Tubes(mask) for mask in config.masks]
        self.predictor = Predictor(config.predictor, config.vit, dense=config.dense > 0)

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean |guess − normed token| over hidden tokens, averaged over the masks (eq. 1), and 2.1's dense terms."""
        config = cast(VJEPA2Config, self.config)
        films = self.films(clip)
        parts = self._error(films)
        if config.vit.image_patch and config.picture_weight:
            when = int(torch.randint(films.shape[2], ()))
            pictures = self._error(films[:, :, when])
            share = config.picture_weight
            parts = {name: (1 - share) * part + share * pictures[name] for name, part in parts.items()}
        loss = parts["predict"] + (self._dense_weight() * parts["dense"] if config.dense else 0.0)
        return loss, {name: part.detach() for name, part in parts.items()}

    def _error(self, x: Tensor) -> dict[str, Tensor]:
        """Guess films `b c t y x` or pictures `b c y x`: the parts of the loss."""
        config = cast(VJEPA2Config, self.config)
        grid = self.online.grid(x)
        with torch.no_grad():
            truth = self.target(x).float()
            truth = F.layer_norm(truth.unflatten(-1, (-1, config.vit.dim)), (config.vit.dim,)).flatten(-2)
        predict, dense, seen = [], [], truth
        for masks, token in zip(self.masks, config.mask_index, strict=True):
            mask = masks(len(x), *grid)
            at, hidden = mask.context.to(x.device), mask.targets[0].to(x.device)
            seen = self.online(x, at)
            given = seen, at, hidden, grid, token, x.ndim == 4
            if config.dense:
                guess, again = self.predictor.both(*given)
                dense.append(((again - take(truth, at)).abs().mean(dim=-1) * nearness(at, hidden, grid)).mean())
            else:
                guess = self.predictor(*given)
            predict.append((guess - take(truth, hidden)).abs().mean())
        parts = {"predict": torch.stack(predict).mean(), "spread": spread(seen)}
        return parts | ({"dense": torch.stack(dense).mean()} if dense else {})

    def _dense_weight(self) -> float:
        config = cast(VJEPA2Config, self.config)
        start, end = config.dense_ramp
        step = int(self.steps)
        return config.dense * (1.0 if step >= end else max(0.0, (step - start) / (end - start)))


def nearness(seen: Tensor, hidden: Tensor, grid: Grid) -> Tensor:
    """1/√d for each seen token `b n`, d its distance on the grid to the nearest hidden one `b m` (2.1, eq. 3)."""
    place = grid_positions(*grid, device=seen.device).float()
    return torch.cdist(place[seen], place[hidden]).amin(dim=-1).rsqrt()
