"""How published checkpoints are laid out: their `config.json` → our configuration, their names of weights → ours.

A layout lists every weight that a complete checkpoint holds, so that what is absent or left over can be told.
`name#i` is part i of a weight that is one in our modules and several in theirs, one below the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from innerworld.config import Config
from innerworld.errors import UserError, choose
from innerworld.nn.vision import ViTConfig
from innerworld.perception.predictor import PredictorConfig

Weights = dict[str, Tensor]


class ProbeConfig(Config):
    classes: int = Field(default=2, description="classes that it tells apart", ge=1)
    heads: int = Field(default=16, description="attention heads", ge=1)
    blocks: int = Field(default=4, description="blocks, the reading one included", ge=1)


@dataclass(frozen=True)
class Layout:
    size: int  # side of the pictures that it is usually shown, pixels
    vit: ViTConfig
    names: dict[str, str]  # theirs → ours
    predictor: PredictorConfig | None = None
    probe: ProbeConfig | None = None


def layout(config: Mapping[str, Any], weights: Weights) -> tuple[Layout, Weights]:
    """The layout of a checkpoint, and its weights under the names that it uses.

    Raises `UserError` for a kind that is not known, a field that is missing, or one that we do not honour.
    """
    kind = choose("model_type", str(_get(config, "model_type")), _LAYOUTS)
    act = "silu" if config.get("use_gated_mlp") else "gelu"  # DINOv2's gate has a fixed one and a field that says gelu
    for name, value in {"hidden_act": act, "qkv_bias": True}.items():
        if config.get(name, value) != value:
            raise UserError(f"config.json: {name}={config[name]!r} is not supported here, only {value!r}")
    weights = _without_prefix(weights, str(config["model_type"]).removesuffix("_with_registers"))
    return kind(config, weights)


def _vjepa2(config: Mapping[str, Any], weights: Weights) -> tuple[Layout, Weights]:
    """V-JEPA 2, with its attentive probe where it is a classifier."""
    wide, narrow = _get(config, "hidden_size"), _get(config, "pred_hidden_size")
    vit = ViTConfig(
        **_trunk(config),
        mlp=int(wide * _get(config, "mlp_ratio")),
        tubelet=_get(config, "tubelet_size"),
        pairing="vjepa2",
    )
    predictor = PredictorConfig(
        dim=narrow,
        depth=_get(config, "pred_num_hidden_layers"),
        heads=_get(config, "pred_num_attention_heads"),
        mlp=int(narrow * _get(config, "pred_mlp_ratio")),
        mask_tokens=_get(config, "pred_num_mask_tokens"),
        zero_tokens=True,
    )
    names = {"predictor.embeddings.mask_tokens": "predictor.mask_tokens"} | _pairs(
        {
            "encoder.embeddings.patch_embeddings.proj": "vit.patches",
            "encoder.layernorm": "vit.norms.0",
            "predictor.embeddings.predictor_embeddings": "predictor.embed",
            "predictor.layernorm": "predictor.norm",
            "predictor.proj": "predictor.out",
        }
    )
    parts = {"attention.proj": "attention.out"} | _qkv("attention.query", "attention.key", "attention.value") | _PLAIN
    names |= _blocks("encoder.layer", "vit.blocks", vit.depth, parts)
    names |= _blocks("predictor.layer", "predictor.blocks", predictor.depth, parts)
    probe = None
    if "VJEPA2ForVideoClassification" in _get(config, "architectures"):
        layers = _get(config, "num_pooler_layers")
        classes = len(weights["classifier.weight"]) if "classifier.weight" in weights else 1
        probe = ProbeConfig(classes=classes, heads=vit.heads, blocks=layers + 1)
        names |= _probe(layers)
    return Layout(_get(config, "crop_size"), vit, names, predictor, probe), weights


def _ijepa(config: Mapping[str, Any], weights: Weights) -> tuple[Layout, Weights]:
    """I-JEPA's encoder; of a classifier the head is left out."""
    weights = _renamed(weights, {"encoder.layer.": "layers."} | _OLDER | {".intermediate.dense": ".mlp.fc1"} | _LAST)
    size, patch = _get(config, "image_size"), _get(config, "patch_size")
    vit = ViTConfig(
        **_trunk(config),
        mlp=_get(config, "intermediate_size"),
        positions="table",
        table=(size // patch, size // patch),
        rescale=False,
    )
    parts = {"layernorm_before": "norm1", "layernorm_after": "norm2", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
    names = {"embeddings.position_embeddings": "vit.table"} | _PICTURE
    return Layout(size, vit, names | _blocks("layers", "vit.blocks", vit.depth, parts | _SPLIT)), _without_heads(
        weights
    )


def _dinov2(config: Mapping[str, Any], weights: Weights) -> tuple[Layout, Weights]:
    """DINOv2, with or without registers; of a classifier the head is left out."""
    weights = _apart(_halved(_renamed(weights, _OLDER | {"weights_out": "down_proj"})))
    size, patch = _get(config, "image_size"), _get(config, "patch_size")
    with_registers = config["model_type"] == "dinov2_with_registers"
    gated, hidden = _get(config, "use_swiglu_ffn"), int(_get(config, "hidden_size") * _get(config, "mlp_ratio"))
    vit = ViTConfig(
        **_trunk(config),
        mlp=(int(hidden * 2 / 3) + 7) // 8 * 8 if gated else hidden,
        positions="table",
        table=(size // patch, size // patch),
        table_antialias=with_registers,
        class_token=True,
        registers=_get(config, "num_register_tokens") if with_registers else 0,
        layer_scale=1.0,
        gated=gated,
    )
    names = {"embeddings.cls_token": "vit.class_token", "embeddings.position_embeddings": "vit.table"} | _PICTURE
    names["embeddings.position_embeddings[class]"] = "vit.class_place"
    if vit.registers:
        names["embeddings.register_tokens"] = "vit.registers"
    mlp = {"mlp.gate_proj": "mlp.fc1#0", "mlp.up_proj": "mlp.fc1#1", "mlp.down_proj": "mlp.fc2"}
    parts = _SPLIT | _PLAIN if not gated else _SPLIT | {"norm1": "norm1", "norm2": "norm2"} | mlp
    names |= _blocks("encoder.layer", "vit.blocks", vit.depth, parts)
    for i in range(vit.depth):
        names |= {f"encoder.layer.{i}.layer_scale{j}.lambda1": f"vit.blocks.{i}.scale{j}" for j in (1, 2)}
    return Layout(224, vit, names), _without_heads(weights)


def _dinov3(config: Mapping[str, Any], weights: Weights) -> tuple[Layout, Weights]:
    """DINOv3's ViT."""
    if _get(config, "rope_theta") != 100:
        raise UserError(f"config.json: rope_theta={config['rope_theta']} is not supported here, only 100")
    gated = _get(config, "use_gated_mlp")
    vit = ViTConfig(
        **_trunk(config),
        mlp=_get(config, "intermediate_size"),
        positions="rope_centred",
        class_token=True,
        registers=_get(config, "num_register_tokens"),
        layer_scale=1.0,
        gated=gated,
    )
    weights = _renamed(weights, {"model.layer.": "layer."})
    weights = _neighbours(_with_bias(weights, "k_proj", _get(config, "key_bias")), vit.heads)
    names = {"embeddings.cls_token": "vit.class_token"}
    names |= {"embeddings.register_tokens": "vit.registers"} if vit.registers else {}
    names |= _pairs({"embeddings.patch_embeddings": "vit.patches", "norm": "vit.norms.0"})
    mlp = {"mlp.gate_proj": "mlp.fc1#0", "mlp.up_proj": "mlp.fc1#1"} if gated else {"mlp.up_proj": "mlp.fc1"}
    parts = _SPLIT | {"norm1": "norm1", "norm2": "norm2", "mlp.down_proj": "mlp.fc2"} | mlp
    names |= _blocks("layer", "vit.blocks", vit.depth, parts)
    for i in range(vit.depth):
        names |= {f"layer.{i}.layer_scale{j}.lambda1": f"vit.blocks.{i}.scale{j}" for j in (1, 2)}
    return Layout(224, vit, names), _without_heads(weights)


_LAYOUTS = {
    "dinov2": _dinov2,
    "dinov2_with_registers": _dinov2,
    "dinov3_vit": _dinov3,
    "ijepa": _ijepa,
    "vjepa2": _vjepa2,
}


# ---------------------------------------------------------------------- names


def _pairs(names: Mapping[str, str]) -> dict[str, str]:
    """Each name twice, for its weight and its bias."""
    found = {}
    for theirs, ours in names.items():
        stem, _, part = ours.partition("#")
        for kind in ("weight", "bias"):
            found[f"{theirs}.{kind}"] = f"{stem}.{kind}" + (f"#{part}" if part else "")
    return found


def _blocks(theirs: str, ours: str, depth: int, parts: Mapping[str, str]) -> dict[str, str]:
    return _pairs({f"{theirs}.{i}.{a}": f"{ours}.{i}.{b}" for i in range(depth) for a, b in parts.items()})


def _qkv(*names: str) -> dict[str, str]:
    return {name: f"attention.qkv#{i}" for i, name in enumerate(names)}


def _probe(layers: int) -> dict[str, str]:
    before = {f"self_attn.{a}_proj": f"attention.qkv#{i}" for i, a in enumerate("qkv")}
    before |= {"self_attn.out_proj": "attention.out", "layer_norm1": "norm1", "layer_norm2": "norm2"}
    before |= {"mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
    read = {"cross_attn.q_proj": "q", "cross_attn.k_proj": "kv#0", "cross_attn.v_proj": "kv#1"}
    read |= {"layer_norm1": "norm1", "layer_norm2": "norm2", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
    names = {f"pooler.cross_attention_layer.{a}": f"probe.read.{b}" for a, b in read.items()}
    names |= {"classifier": "probe.classify"}
    names = _pairs(names) | _blocks("pooler.self_attention_layers", "probe.before", layers, before)
    return names | {"pooler.query_tokens": "probe.query"}


_PLAIN = {"norm1": "norm1", "norm2": "norm2", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
_SPLIT = _qkv("attention.q_proj", "attention.k_proj", "attention.v_proj") | {"attention.o_proj": "attention.out"}
_PICTURE = _pairs({"embeddings.patch_embeddings.projection": "vit.patches", "layernorm": "vit.norms.0"})
# transformers 4 wrote other names than version 5 holds in memory, and version 5 still writes the old ones.
_OLDER = {f".attention.attention.{name}": f".attention.{name[0]}_proj" for name in ("query", "key", "value")}
_OLDER |= {".attention.output.dense": ".attention.o_proj"}
_LAST = {".output.dense": ".mlp.fc2"}  # after the line above, which it is a part of


def _trunk(config: Mapping[str, Any]) -> dict[str, Any]:
    theirs = {
        "dim": "hidden_size",
        "depth": "num_hidden_layers",
        "heads": "num_attention_heads",
        "patch": "patch_size",
        "eps": "layer_norm_eps",
    }
    return {ours: _get(config, name) for ours, name in theirs.items()}


def _get(config: Mapping[str, Any], name: str) -> Any:
    if name not in config:
        raise UserError(
            f"config.json has no {name!r}: this is not a checkpoint that transformers wrote, or not all of it"
        )
    return config[name]


# ---------------------------------------------------------------------- weights


def _without_prefix(weights: Weights, prefix: str) -> Weights:
    return {name.removeprefix(f"{prefix}."): value for name, value in weights.items()}


def _without_heads(weights: Weights) -> Weights:
    """Weights that some checkpoints of an encoder hold beside it: a classifier, a pooler, a mask token never used."""
    heads = ("classifier.", "pooler.dense.", "embeddings.mask_token")
    return {name: value for name, value in weights.items() if not name.startswith(heads)}


def _renamed(weights: Weights, words: Mapping[str, str]) -> Weights:
    found = {}
    for name, value in weights.items():
        for old, new in words.items():
            name = name.replace(old, new)
        found[name] = value
    return found


def _halved(weights: Weights) -> Weights:
    """A SwiGLU's gate and value, written as one weight by transformers 4, as two."""
    found = {}
    for name, value in weights.items():
        if ".weights_in." in name:
            gate, up = value.chunk(2)
            found[name.replace("weights_in", "gate_proj")], found[name.replace("weights_in", "up_proj")] = gate, up
        else:
            found[name] = value
    return found


def _apart(weights: Weights) -> Weights:
    """DINOv2's position table begins with the class token's place."""
    whole = "embeddings.position_embeddings"
    if whole not in weights:
        return weights  # that it is missing is said later, with all others
    first, rest = weights[whole][:, :1], weights[whole][:, 1:]
    return {**weights, whole: rest, f"{whole}[class]": first}


def _with_bias(weights: Weights, layer: str, has: bool) -> Weights:
    """Zero where a layer was built without bias; one that should have it and lacks it stays as it is, to be told."""
    found = [] if has else [name for name in weights if name.endswith(f".{layer}.weight")]
    return weights | {name.replace("weight", "bias"): torch.zeros(len(weights[name])) for name in found}


def _neighbours(weights: Weights, heads: int) -> Weights:
    """DINOv3 turns channel i of a head together with i + d/2, here neighbours turn: reorder queries and keys."""
    return {
        name: value.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)
        if ".q_proj." in name or ".k_proj." in name
        else value
        for name, value in weights.items()
    }
