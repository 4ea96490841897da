"""The registry: names, presets and settings lead to a model, or to a sentence that says which there are."""

from __future__ import annotations

import pytest
import torch

from innerworld import models
from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.models import JEPA, MODELS
from innerworld.types import Spec
from innerworld.world import WorldModel

SPEC = Spec({"pixels": (32, 32, 3)}, 2)


@pytest.mark.parametrize("family", MODELS)
def test_every_family_says_what_it_is(family: str) -> None:
    kind = MODELS[family]
    assert issubclass(kind, WorldModel) and issubclass(kind.Config, Config)
    assert kind.__doc__ and kind.card.name and kind.card.predicts and kind.card.backbone and kind.card.paper
    for name, field in kind.Config.model_fields.items():
        assert field.description, f"{family}.{name} has no description"
        assert not field.is_required(), f"{family}.{name} has no default"
    assert all(isinstance(preset, kind.Config) for preset in kind.presets.values())


def test_config_takes_a_preset_and_words() -> None:
    assert models.config("jepa") == JEPA.Config()
    assert models.config("jepa", "small") == JEPA.presets["small"]
    assert models.config("jepa", "small", ["latent=7"]) == JEPA.presets["small"].model_copy(update={"latent": 7})


def test_build_takes_a_config_or_plain_values() -> None:
    config = models.config("jepa", words=["latent=7", "channels=2"])
    model = models.build("jepa", config.model_dump(mode="json"), SPEC)
    assert isinstance(model, JEPA) and model.config == config and model.spec == SPEC
    assert isinstance(models.build("jepa", config, SPEC), JEPA)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda: models.config("jeppa"), "unknown family 'jeppa'. Did you mean 'jepa'"),
        (lambda: models.config("jepa", "smal"), "unknown preset of jepa 'smal'. Did you mean 'small'"),
        (lambda: models.config("jepa", words=["latnt=3"]), "unknown key 'latnt'. Did you mean 'latent'"),
        (lambda: models.build("jepa", {"latnt": 3}, SPEC), "unknown key 'jepa.latnt'. Did you mean 'latent'"),
        (lambda: models.build("jepa", {"latent": 0}, SPEC), "jepa.latent: "),
        (lambda: models.build("oracle", {}, SPEC), "true dynamics"),
    ],
)
def test_a_mistake_is_named(wrong, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        wrong()


SIGHTS = {"oasis": (360, 640, 3), "toy_wm": (24, 24, 3)}  # of presets whose patches tile no other pictures


@pytest.mark.parametrize(
    ("family", "preset"), [(family, preset) for family, kind in MODELS.items() for preset in kind.presets]
)
def test_every_preset_can_be_built(family: str, preset: str) -> None:
    if MODELS[family].presets[preset].model_dump().get("eyes", {}).get("checkpoint"):
        pytest.skip("its eyes are fetched from the hub; tests/models of the family builds it with others of that size")
    with torch.device("meta"):
        models.build(family, MODELS[family].presets[preset], Spec({"pixels": SIGHTS.get(preset, (64, 64, 3))}, 2))
