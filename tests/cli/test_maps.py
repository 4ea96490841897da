"""`innerworld models`, `envs`, `planners`."""

from __future__ import annotations

import json

import pytest

from innerworld.cli import main
from innerworld.envs import ENVS
from innerworld.families import FAMILIES, config
from innerworld.models import MODELS
from innerworld.perception import ENCODERS
from innerworld.plan import PLANNERS


def _json(capsys, *words):
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_models(capsys):
    rows = {row["name"]: row for row in _json(capsys, "models")["models"]}
    assert list(rows) == list(MODELS)
    assert rows["jepa"]["file"] == "innerworld/models/jepa.py"
    assert rows["jepa"]["presets"] == list(MODELS["jepa"].presets)
    assert rows["rssm"]["decodes"] is True
    eyes = {row["name"]: row for row in _json(capsys, "models")["eyes"]}
    assert list(eyes) == list(ENCODERS) and "2506.09985" in eyes["vjepa2"]["about"]
    assert eyes["vjepa2"]["presets"] == list(ENCODERS["vjepa2"].presets)
    assert main(["models"]) == 0
    out = capsys.readouterr().out
    assert all(row["about"] in out for row in eyes.values())
    assert all(card.paper in out for card in (kind.card for kind in MODELS.values()))


@pytest.mark.parametrize("name", list(FAMILIES))
def test_one_model(name, capsys):
    found = _json(capsys, "models", name)
    keys = [row["key"].split(".")[1] for row in found["fields"]]  # nested ones begin with their field
    assert list(dict.fromkeys(keys)) == list(FAMILIES[name].Config.model_fields)
    assert list(found["presets"]) == list(FAMILIES[name].presets)
    assert main(["models", name]) == 0
    assert found["about"] in capsys.readouterr().out


def test_a_preset_is_told_by_what_it_changes(capsys):
    lewm = _json(capsys, "models", "jepa")["presets"]["lewm"]
    assert lewm["latent"] == 192
    assert "std" not in lewm
    storm = _json(capsys, "models", "dreamer")["presets"]["storm"]
    assert (storm["family"], storm["world.backbone.positions"]) == ("sequence", "learned")
    assert "world" not in storm and "world.reward" not in storm


@pytest.mark.parametrize("name", list(FAMILIES))
def test_who_types_what_a_preset_changes_has_the_preset(name, capsys):
    for preset, changes in _json(capsys, "models", name)["presets"].items():
        words = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
        assert config(name, None, words) == FAMILIES[name].presets[preset], preset


def test_envs(capsys):
    found = _json(capsys, "envs")
    assert [row["name"] for row in found["envs"]] == list(ENVS)
    assert main(["envs"]) == 0
    assert "Gymnasium" in capsys.readouterr().out


def test_one_env(capsys):
    found = _json(capsys, "envs", "two_rooms")
    assert found["sensors"]["pixels"] == [64, 64, 3]
    assert (found["action"], found["discrete"]) == (2, False)


def test_planners(capsys):
    assert [row["name"] for row in _json(capsys, "planners")["planners"]] == list(PLANNERS)
    found = _json(capsys, "planners", "cem")
    assert {row["key"] for row in found["fields"]} == set(PLANNERS["cem"].model_fields)
    assert main(["planners"]) == 0
    assert "Cross-entropy method" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["models", "jpa"], "unknown family 'jpa'. Did you mean 'jepa'?"),
        (["planners", "cme"], "unknown planner 'cme'. Did you mean 'cem'?"),
        (["envs", "two_room"], "unknown environment 'two_room'. Did you mean 'two_rooms'?"),
    ],
)
def test_unknown_names(words, told, capsys):
    assert main(words) == 2
    assert told in capsys.readouterr().err
