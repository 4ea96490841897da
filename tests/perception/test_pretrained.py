"""Checkpoints load whole or not at all, and every fault is named. No network, no transformers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from innerworld.errors import UserError
from innerworld.perception import Eyes, pretrained
from innerworld.perception.layouts import layout
from innerworld.testing.world_model import random_clip
from innerworld.types import Spec

CONFIGS: dict[str, dict[str, Any]] = {
    "vjepa2": {
        "model_type": "vjepa2",
        "architectures": ["VJEPA2ForVideoClassification"],
        "hidden_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "mlp_ratio": 2.0,
        "patch_size": 8,
        "tubelet_size": 2,
        "crop_size": 16,
        "layer_norm_eps": 1e-6,
        "pred_hidden_size": 24,
        "pred_num_hidden_layers": 1,
        "pred_num_attention_heads": 2,
        "pred_mlp_ratio": 4.0,
        "pred_num_mask_tokens": 3,
        "num_pooler_layers": 1,
    },
    "ijepa": {
        "model_type": "ijepa",
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 40,
        "patch_size": 8,
        "image_size": 16,
        "layer_norm_eps": 1e-6,
    },
    "dinov2": {
        "model_type": "dinov2",
        "hidden_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "mlp_ratio": 4,
        "use_swiglu_ffn": False,
        "patch_size": 14,
        "image_size": 28,
        "layer_norm_eps": 1e-6,
    },
}


def checkpoint(kind: str, folder: Path) -> dict[str, Tensor]:
    """A checkpoint of random weights as transformers has them in memory, made from what the layout lists."""
    config = CONFIGS[kind]
    plan, _ = layout(config, {"classifier.weight": torch.zeros(5, 24)})
    spec = Spec({"pixels": (plan.size, plan.size, 3)}, 1)
    from innerworld.perception.pretrained import EyesConfig

    eyes = Eyes(EyesConfig(vit=plan.vit, predictor=plan.predictor, probe=plan.probe), spec)
    state, weights = eyes.state_dict(), {}
    for theirs, ours in plan.names.items():
        name, _, part = ours.partition("#")
        parts = sum(other.partition("#")[0] == name for other in plan.names.values())
        value = torch.randn_like(state[name]).chunk(parts)[int(part or 0)]
        weights[theirs] = value.flatten(0, 1)[None] if name == "vit.table" else value
    if "embeddings.position_embeddings[class]" in weights:
        first = weights.pop("embeddings.position_embeddings[class]")
        rest = weights["embeddings.position_embeddings"]
        weights["embeddings.position_embeddings"] = torch.cat([first[None], rest], dim=1)
    write(folder, config, weights)
    return weights


def write(folder: Path, config: dict[str, Any], weights: dict[str, Tensor]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file({name: value.contiguous() for name, value in weights.items()}, folder / "model.safetensors")


@pytest.mark.parametrize("kind", sorted(CONFIGS))
def test_eyes_see(kind: str, tmp_path: Path) -> None:
    checkpoint(kind, tmp_path)
    spec = Spec({"front": (20, 30, 3), "hand": (2,)}, 2)
    eyes = pretrained(tmp_path, spec, size=2 * CONFIGS[kind]["patch_size"])
    assert not eyes.training and not any(value.requires_grad for value in eyes.parameters())
    assert eyes.encode(random_clip(spec, 2, 1).at(0)).shape == (2, 4, 24)
    with pytest.raises(UserError, match="no loss of their own"):
        eyes.loss(random_clip(spec, 2, 1))


def test_eyes_can_be_trained_along(tmp_path: Path) -> None:
    checkpoint("ijepa", tmp_path)
    eyes = pretrained(tmp_path, frozen=False)
    eyes.encode(random_clip(eyes.spec, 2, 1).at(0)).square().mean().backward()
    assert all(value.grad is not None for value in eyes.parameters())


def test_a_probe_and_a_predictor_come_along(tmp_path: Path) -> None:
    weights = checkpoint("vjepa2", tmp_path)
    eyes = pretrained(tmp_path)
    assert eyes.probe is not None and eyes.predictor is not None
    assert torch.equal(eyes.probe.classify.weight, weights["classifier.weight"])
    assert torch.equal(eyes.predictor.mask_tokens, weights["predictor.embeddings.mask_tokens"])
    stacked = [weights[f"encoder.layer.0.attention.{name}.weight"] for name in ("query", "key", "value")]
    assert torch.equal(eyes.vit.get_parameter("blocks.0.attention.qkv.weight"), torch.cat(stacked))


def test_shards_are_put_together(tmp_path: Path) -> None:
    weights = checkpoint("ijepa", tmp_path)
    names = sorted(weights)
    where = {name: f"model-{i % 2}.safetensors" for i, name in enumerate(names)}
    for file in set(where.values()):
        save_file({name: weights[name].contiguous() for name in names if where[name] == file}, tmp_path / file)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    whole = pretrained(tmp_path)
    assert torch.equal(whole.vit.norms[0].weight, weights["layernorm.weight"])
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(UserError, match="has no weight_map"):
        pretrained(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    (tmp_path / "model-1.safetensors").unlink()
    with pytest.raises(UserError, match=r"no model-1\.safetensors in"):
        pretrained(tmp_path)


@pytest.mark.parametrize("kind", sorted(CONFIGS))
def test_every_fault_is_named(kind: str, tmp_path: Path) -> None:
    weights = checkpoint(kind, tmp_path)
    for name in weights:
        fewer = {other: value for other, value in weights.items() if other != name}
        write(tmp_path, CONFIGS[kind], fewer)
        with pytest.raises(UserError, match="weights missing") as error:
            pretrained(tmp_path)
        assert name in str(error.value) and "\n" not in str(error.value)
    write(tmp_path, CONFIGS[kind], weights | {"encoder.mystery": torch.zeros(1), "encoder.other": torch.zeros(1)})
    with pytest.raises(UserError, match=r"2 weights unexpected: encoder\.mystery, encoder\.other"):
        pretrained(tmp_path)
    write(tmp_path, CONFIGS[kind] | {"hidden_size": 48}, weights)
    with pytest.raises(UserError, match=r"weights of another size: .* from \("):
        pretrained(tmp_path)


def test_all_names_are_told_blocks_together(tmp_path: Path) -> None:
    weights = checkpoint("ijepa", tmp_path)
    write(tmp_path, CONFIGS["ijepa"] | {"num_hidden_layers": 4}, weights)
    with pytest.raises(UserError, match=r"32 weights missing: layers\.2-3\.") as error:
        pretrained(tmp_path)
    assert str(error.value).count("layers.2-3.") == 16
    write(tmp_path, CONFIGS["ijepa"] | {"num_hidden_layers": 1}, weights)
    with pytest.raises(UserError, match=r"16 weights unexpected: layers\.1\.attention") as error:
        pretrained(tmp_path)
    assert str(error.value).count("layers.1.") == 16


def test_parts_that_do_not_fit_each_other_are_told(tmp_path: Path) -> None:
    weights = checkpoint("ijepa", tmp_path)
    write(tmp_path, CONFIGS["ijepa"], weights | {"layers.0.attention.q_proj.weight": torch.zeros(24, 23)})
    sentence = (
        r"1 weights of another size: vit\.blocks\.0\.attention\.qkv\.weight \(72, 24\) from \(24, 23\), \(24, 24\)"
    )
    with pytest.raises(UserError, match=sentence):
        pretrained(tmp_path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model_type": "ijepaa"}, "unknown model_type 'ijepaa'. Did you mean 'ijepa'"),
        ({"hidden_act": "relu"}, "hidden_act='relu' is not supported here, only 'gelu'"),
        ({"qkv_bias": False}, "qkv_bias=False is not supported here"),
    ],
)
def test_a_configuration_that_is_not_honoured_is_refused(change: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    weights = checkpoint("ijepa", tmp_path)
    write(tmp_path, CONFIGS["ijepa"] | change, weights)
    with pytest.raises(UserError, match=sentence):
        pretrained(tmp_path)


def test_folders_that_hold_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no config\.json in .*: give the folder of a checkpoint"):
        pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="is not JSON"):
        pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "ijepa"}))
    with pytest.raises(UserError, match=r"no model\.safetensors in"):
        pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(UserError, match="cannot be read"):
        pretrained(tmp_path)
    checkpoint("ijepa", tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "ijepa"}))
    with pytest.raises(UserError, match=r"config\.json has no 'image_size'|config\.json has no 'hidden_size'"):
        pretrained(tmp_path)


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "nowhere", "a/b/c"])
def test_a_path_that_is_not_there_asks_no_hub(name: str) -> None:
    with pytest.raises(UserError, match=r"no folder .* and a name on the hub reads owner/name"):
        pretrained(name)


def test_the_hub_out_of_reach_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")

    def offline(*given: object, **options: object) -> str:
        raise hub.errors.LocalEntryNotFoundError("cannot find the files\non the disk")

    monkeypatch.setattr(hub, "snapshot_download", offline)
    with pytest.raises(
        UserError, match=r"cannot fetch facebook/x from the hub \(cannot find the files\): give a local"
    ):
        pretrained("facebook/x")


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r'pip install "innerworld\[hub\]"'):
        pretrained("facebook/x")
