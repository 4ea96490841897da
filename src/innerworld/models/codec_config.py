"""Which tokenizer a codec has: fresh, taught along with the model, or that of a run, borrowed and held still."""

from __future__ import annotations

import hashlib
from typing import Literal

from pydantic import Field

from innerworld import checkpoint
from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.perception.mae import MAE, MAEConfig
from innerworld.perception.pca import PCA, PCAConfig
from innerworld.perception.sight import SightConfig
from innerworld.perception.tokenizer import Tokenizer, TokenizerConfig
from innerworld.perception.vq import FSQ, VQ, FSQConfig, VQConfig
from innerworld.types import Spec

KINDS: dict[str, type[Tokenizer]] = {"pca": PCA, "vq": VQ, "fsq": FSQ, "mae": MAE}


class CodecConfig(Config):
    """What is read from `checkpoint` is written into the other fields, and its weights belong to the model from then
    on: a saved model needs no other folder."""

    kind: Literal["pca", "vq", "fsq", "mae"] = Field(
        default="pca", description="what makes tokens of pictures: pca is found in closed form, the others are taught"
    )
    patch: int = Field(default=8, description="side of the square that a token stands for, pixels", ge=1)
    width: int = Field(default=16, description="numbers of a token (fsq: as many as fsq.levels)", ge=1)
    image_size: int | None = Field(
        default=None, description="side at which pictures are seen, pixels (none: own)", ge=1
    )
    steps: int = Field(default=500, description="updates that teach a tokenizer before it is held still", ge=0)
    checkpoint: str | None = Field(
        default=None, description="the run of a trained tokenizer, borrowed and held still; it says all of the others"
    )
    pca: PCAConfig = Field(default=PCAConfig(), description="its further settings; patch, width and size are as above")
    vq: VQConfig = Field(default=VQConfig(), description="likewise")
    fsq: FSQConfig = Field(default=FSQConfig(), description="likewise")
    mae: MAEConfig = Field(default=MAEConfig(), description="likewise")
    origin: str = Field(default="", description="where a borrowed tokenizer came from; only told")
    fingerprint: str = Field(default="", description="of a borrowed tokenizer: no other will do")


def borrow(config: CodecConfig, spec: Spec) -> tuple[CodecConfig, Tokenizer | None]:
    """The configuration that builds it again without `checkpoint`, and the tokenizer of that run, where one is named.

    Raises `UserError` for a run that is not there or holds no tokenizer, one made for other pictures, and one with
    another fingerprint than `config` names.
    """
    if config.checkpoint is None:
        return config, None
    lent = checkpoint.load(config.checkpoint, kind=Tokenizer)
    kind = next((name for name, leaf in KINDS.items() if type(lent) is leaf), None)
    if kind is None:
        raise UserError(f"{config.checkpoint} holds a {type(lent).__name__}: a codec knows {', '.join(KINDS)}")
    for sensor in spec.images():
        if spec.obs[sensor] != lent.shape:
            found, made = ("×".join(map(str, shape)) for shape in (spec.obs[sensor], lent.shape))
            raise UserError(
                f"sensor {sensor!r} shows {found} (y, x, channels), the tokenizer of {config.checkpoint} was made for "
                f"{made}: train one on such pictures"
            )
    own = fingerprint(lent)
    if config.fingerprint and config.fingerprint != own:
        raise UserError(
            f"{config.checkpoint} holds the tokenizer {own}, this model was made for {config.fingerprint}: give "
            "the run that it came from, or leave codec.fingerprint empty to begin with another"
        )
    told = {"kind": kind, "patch": lent.patch, "width": lent.width, "image_size": lent.sight.config.size}
    told |= {kind: lent.config, "checkpoint": None, "origin": config.checkpoint, "fingerprint": own}
    return config.model_copy(update=told), lent


def build_tokenizer(config: CodecConfig, spec: Spec) -> Tokenizer:
    """A fresh tokenizer for the only sensor of `spec`."""
    own: dict[str, TokenizerConfig] = {"pca": config.pca, "vq": config.vq, "fsq": config.fsq, "mae": config.mae}
    change: dict[str, object] = {"patch": config.patch, "sight": SightConfig(size=config.image_size)}
    if config.kind != "fsq":
        change["width"] = config.width
    return KINDS[config.kind](own[config.kind].model_copy(update=change), spec)


def fingerprint(tokenizer: Tokenizer) -> str:
    """12 hexadecimal digits that differ where settings, pictures or weights do, whatever the sensor is called."""
    config = tokenizer.config.model_dump_json(exclude={"sight": {"sensor"}})
    found = hashlib.sha256(f"{type(tokenizer).__name__} {config} {tokenizer.shape}".encode())
    for name, value in sorted(tokenizer.state_dict().items()):
        found.update(name.encode())
        found.update(value.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:12]
