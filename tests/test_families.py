"""World models and eyes share one namespace: a run names its family by one word."""

from __future__ import annotations

import pytest
import torch

from innerworld import families
from innerworld.errors import UserError
from innerworld.families import FAMILIES
from innerworld.models import JEPA, MODELS
from innerworld.perception import ENCODERS, VJEPA2, Tokenizer
from innerworld.types import Spec

SPEC = Spec({"pixels": (32, 32, 3)}, 2)


def test_no_name_is_given_twice() -> None:
    assert not MODELS.keys() & ENCODERS.keys()
    assert FAMILIES == MODELS | ENCODERS


def test_both_kinds_are_configured_and_built() -> None:
    assert families.config("jepa", "small") == JEPA.presets["small"]
    assert families.config("vjepa2", "tiny", ["crop=null"]).model_dump()["crop"] is None
    with torch.device("meta"):
        assert isinstance(families.build("jepa", {"latent": 4}, SPEC), JEPA)
        assert isinstance(families.build("vjepa2", VJEPA2.presets["tiny"], SPEC), VJEPA2)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_first_preset_is_a_small_one(name: str) -> None:
    first = families.first_preset(name)
    assert first in (FAMILIES[name].presets if FAMILIES[name].presets else [None])
    others = {"oracle": None, "dreamer": "v3", "dino_wm": "tiny", "vjepa2_ac": "tiny"}
    eyes = name in ENCODERS and not issubclass(ENCODERS[name], Tokenizer)
    assert first == others.get(name, "tiny" if eyes else "small")


@pytest.mark.parametrize(
    ("name", "sentence"), [("jeppa", "unknown family 'jeppa'. Did you mean 'jepa'"), ("lejpa", "mean 'lejepa'")]
)
def test_the_nearest_of_both_is_named(name: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        families.config(name)
