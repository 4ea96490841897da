"""The same random weights in transformers and here: the same numbers. Within the limits of that oracle.

transformers takes V-JEPA 2's positions from its configuration, so pictures have `crop_size`; it encodes everything and
then drops what is masked, so the encoder is compared on all tokens; and its predictor always takes mask token 1.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from innerworld.nn.patches import take
from innerworld.perception.pretrained import Eyes, pretrained

transformers = pytest.importorskip("transformers")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
CLOSE = {"rtol": 0, "atol": 1e-5}


def saved(kind: str, folder: Path, **settings: Any) -> Any:
    """A model of random weights, larger than usual so that nothing vanishes in the comparison, saved to `folder`."""
    torch.manual_seed(0)
    model = getattr(transformers, kind)(
        getattr(transformers, f"{kind.partition('For')[0].removesuffix('Model')}Config")(**settings)
    )
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.02 * torch.randn_like(value))
    model.save_pretrained(folder)
    return model.eval()


VJEPA2 = [
    {"hidden_size": 48, "num_attention_heads": 2, "crop_size": 32, "patch_size": 8, "mlp_ratio": 2.0},
    {"hidden_size": 64, "num_attention_heads": 1, "crop_size": 48, "patch_size": 16, "mlp_ratio": 4.0},
    {"hidden_size": 96, "num_attention_heads": 3, "crop_size": 64, "patch_size": 16, "tubelet_size": 1},
    {"hidden_size": 88, "num_attention_heads": 2, "crop_size": 32, "patch_size": 4, "mlp_ratio": 48 / 11},
]
COMMON = {
    "num_hidden_layers": 3,
    "frames_per_clip": 8,
    "pred_hidden_size": 48,
    "pred_num_attention_heads": 2,
    "pred_num_hidden_layers": 2,
    "pred_num_mask_tokens": 3,
    "pred_zero_init_mask_tokens": False,
}


@pytest.mark.parametrize("settings", VJEPA2)
@pytest.mark.parametrize("frames", [4, 8, 16])
def test_vjepa2_encoder_and_predictor(tmp_path: Path, settings: dict[str, Any], frames: int) -> None:
    theirs = saved("VJEPA2Model", tmp_path, **COMMON, **settings)
    ours = pretrained(tmp_path)
    films = torch.randn(2, frames, 3, settings["crop_size"], settings["crop_size"])
    n = frames // settings.get("tubelet_size", 2) * (settings["crop_size"] // settings["patch_size"]) ** 2
    order = torch.stack([torch.randperm(n) for _ in range(2)])
    seen, hidden = order[:, : n // 3], order[:, n // 2 :]  # neither sorted
    with torch.no_grad():
        wanted = theirs(films, context_mask=[seen], target_mask=[hidden])
        x = films.transpose(1, 2)
        tokens = ours.vit(x)
        assert ours.predictor is not None
        guess = ours.predictor(take(tokens, seen), seen, hidden, ours.vit.grid(x), token=1)
    torch.testing.assert_close(tokens, wanted.last_hidden_state, **CLOSE)
    torch.testing.assert_close(guess, wanted.predictor_output.last_hidden_state, **CLOSE)


@pytest.mark.parametrize("layers", [0, 1, 3])
@pytest.mark.parametrize("settings", VJEPA2[:2])
def test_vjepa2_classifier(tmp_path: Path, settings: dict[str, Any], layers: int) -> None:
    theirs = saved(
        "VJEPA2ForVideoClassification", tmp_path, **COMMON, **settings, num_pooler_layers=layers, num_labels=7
    )
    ours = pretrained(tmp_path)
    films = torch.randn(2, 8, 3, settings["crop_size"], settings["crop_size"])
    with torch.no_grad():
        assert ours.probe is not None
        found = ours.probe(ours.vit(films.transpose(1, 2)))
        torch.testing.assert_close(found, theirs(films).logits, **CLOSE)
    assert found.shape == (2, 7)


VIT = [
    {"hidden_size": 48, "num_attention_heads": 2, "image_size": 32, "patch_size": 8},
    {"hidden_size": 64, "num_attention_heads": 4, "image_size": 48, "patch_size": 16, "layer_norm_eps": 1e-6},
    {"hidden_size": 96, "num_attention_heads": 3, "image_size": 56, "patch_size": 14},
    {"hidden_size": 40, "num_attention_heads": 8, "image_size": 64, "patch_size": 4},
]


@pytest.mark.parametrize("settings", VIT)
def test_ijepa_encoder(tmp_path: Path, settings: dict[str, Any]) -> None:
    theirs = saved("IJepaModel", tmp_path, num_hidden_layers=3, intermediate_size=100, **settings)
    compare_pictures(theirs, pretrained(tmp_path), settings, interpolate_pos_encoding=True)


@pytest.mark.parametrize("settings", VIT)
def test_dinov2(tmp_path: Path, settings: dict[str, Any]) -> None:
    theirs = saved("Dinov2Model", tmp_path, num_hidden_layers=3, layerscale_value=0.7, **settings)
    compare_pictures(theirs, pretrained(tmp_path), settings)


@pytest.mark.parametrize("kind", ["Dinov2Model", "Dinov2WithRegistersModel"])
def test_dinov2_gated_and_with_registers(tmp_path: Path, kind: str) -> None:
    theirs = saved(kind, tmp_path, num_hidden_layers=2, use_swiglu_ffn=True, **VIT[0])
    compare_pictures(theirs, pretrained(tmp_path), VIT[0])


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("settings", VIT[:3])
def test_dinov3(tmp_path: Path, settings: dict[str, Any], gated: bool) -> None:
    more = {"use_gated_mlp": gated, "num_register_tokens": 3, "intermediate_size": 88, "layerscale_value": 0.7}
    more |= {"hidden_act": "silu" if gated else "gelu"}
    theirs = saved("DINOv3ViTModel", tmp_path, num_hidden_layers=3, **(settings | more))
    compare_pictures(theirs, pretrained(tmp_path), settings)


def compare_pictures(theirs: Any, ours: Eyes, settings: dict[str, Any], **more: bool) -> None:
    """At the size of the checkpoint, and at another one, for which the position table is resized."""
    for size in (settings["image_size"], settings["image_size"] + 2 * settings["patch_size"]):
        pictures = torch.randn(2, 3, size, size)
        with torch.no_grad():
            wanted = theirs(pictures, **more).last_hidden_state
            torch.testing.assert_close(ours.vit(pictures), wanted, **CLOSE)


def test_names_in_memory_are_known_too(tmp_path: Path) -> None:
    """transformers 5 has other names in memory than it writes; some checkpoints hold those."""
    from safetensors.torch import save_file

    for kind in ("IJepaModel", "Dinov2Model"):
        folder = tmp_path / kind
        theirs = saved(kind, folder, num_hidden_layers=2, **VIT[0])
        state = {name: value.contiguous() for name, value in theirs.state_dict().items()}
        assert any("q_proj" in name for name in state)
        save_file(state, folder / "model.safetensors")
        compare_pictures(
            theirs, pretrained(folder), VIT[0], **({"interpolate_pos_encoding": True} if kind == "IJepaModel" else {})
        )


def test_a_classifiers_head_is_left_out(tmp_path: Path) -> None:
    for kind, settings in (
        ("IJepaForImageClassification", {"intermediate_size": 96}),
        ("Dinov2ForImageClassification", {}),
    ):
        folder = tmp_path / kind
        saved(kind, folder, num_hidden_layers=1, num_labels=5, **VIT[0], **settings)
        assert pretrained(folder).vit(torch.zeros(1, 3, 32, 32)).shape[-1] == 48
