"""Eyes of a run and published ones name labelled films: labels by name, films decoded when seen, order told apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from innerworld import checkpoint
from innerworld.data.labelled import Labelled, LabelledSet, numbered_alike
from innerworld.data.video import VideoWriter
from innerworld.errors import UserError
from innerworld.evaluate.understanding import UnderstandingConfig
from innerworld.nn.sincos import sincos
from innerworld.nn.vision import ViTConfig
from innerworld.perception.lejepa import LeJEPA, LeJEPAConfig
from innerworld.perception.vjepa2 import VJEPA2, VJEPA2Config
from innerworld.recipes.understand import seeing, understand_labelled
from innerworld.types import Spec

SPEC = Spec({"pixels": (16, 16, 3)}, 0)
CPU = torch.device("cpu")
PROBE = UnderstandingConfig(heads=2, epochs=12, batch=8, lr=(1e-2,), weight_decay=(0.01,))
VIT = ViTConfig(dim=24, depth=1, heads=2, mlp=24, patch=8)
NAMES = ("it gets brighter", "it gets darker")
LIGHTS = (30, 30, 125, 125, 125, 125, 220, 220)  # the middle is the same either way


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> tuple[LabelledSet, LabelledSet]:
    """32 to learn from, 12 of two sizes to be judged on, whose list numbers the labels the other way round."""
    folder = tmp_path_factory.mktemp("films")
    return _films(folder / "learn", 32, NAMES, (24, 32)), _films(folder / "test", 12, NAMES[::-1], (32, 20))


def _films(folder: Path, n: int, names: tuple[str, ...], size: tuple[int, int]) -> LabelledSet:
    folder.mkdir()
    items = []
    for i in range(n):
        brighter = i % 2
        path = folder / f"{i}.mp4"
        with VideoWriter(path, 10) as writer:
            for light in LIGHTS[:: 1 if brighter else -1]:
                writer.add(np.full((*size, 3), light, np.uint8))
        items.append(Labelled(path, names.index(NAMES[0] if brighter else NAMES[1])))
    return LabelledSet(tuple(items), names, 0)


@pytest.fixture(scope="module", params=["films", "pictures"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run of eyes that see films, or one of eyes that see pictures, with random weights."""
    torch.manual_seed(0)
    if request.param == "films":
        plain = VJEPA2.presets["tiny"].model_dump() | {"vit": VIT.model_dump() | {"tubelet": 2}}
        eyes: LeJEPA | VJEPA2 = VJEPA2(VJEPA2Config.model_validate(plain), SPEC)
    else:
        vit = VIT.model_copy(update={"positions": "table", "table": (2, 2)})
        eyes = LeJEPA(LeJEPAConfig(vit=vit, projector=(16, 8), global_size=16, local_size=8), SPEC)
    folder = tmp_path_factory.mktemp("runs") / request.param
    checkpoint.save(folder, eyes, None, 0, None)
    return str(folder)


def test_the_order_of_frames_is_named_and_one_frame_tells_nothing(
    run: str, films: tuple[LabelledSet, LabelledSet]
) -> None:
    found = understand_labelled(run, *films, PROBE, frames=4, still=True, quiet=True)
    assert found["films"]["top1"] == 1 and found["films"]["low"] > 0.7 and found["films"]["lr"] == 1e-2
    assert found["one_frame"] is not None and found["one_frame"]["top1"] < 0.8
    assert {k: found[k] for k in ("learn", "test", "labels", "unlearnt", "size")} == {
        "learn": 32, "test": 12, "labels": 2, "unlearnt": 0, "size": 16
    }  # fmt: skip


def test_pictures_are_seen_frame_by_frame_and_films_whole() -> None:
    clip = torch.randint(0, 256, (2, 4, 16, 16, 3), dtype=torch.uint8)
    pictures = LeJEPA(LeJEPAConfig(vit=VIT.model_copy(update={"positions": "table", "table": (2, 2)})), SPEC).eval()
    tokens = seeing(pictures, CPU)(clip).detach().unflatten(1, (4, 4))
    marks = tokens[:, 2] - pictures.encode({"pixels": clip[:, 2]}).detach()  # of the third frame, alone
    torch.testing.assert_close(marks, sincos(torch.tensor([2]), 24).float().expand_as(marks), atol=1e-5, rtol=0)
    whole = VJEPA2(VJEPA2Config(vit=VIT.model_copy(update={"tubelet": 2})), SPEC).eval()
    assert torch.equal(seeing(whole, CPU)(clip), whole.encode({"pixels": clip}))


def test_few_of_many_are_drawn_and_labels_nobody_learns_are_told(films: tuple[LabelledSet, LabelledSet]) -> None:
    folder = films[1].items[0].path.parent
    other = LabelledSet(films[1].items, ("it gets darker", "it turns"), 0)
    learn, test = numbered_alike(films[0], other)
    assert learn.names == test.names == ("it gets brighter", "it gets darker", "it turns")
    assert {item.label for item in learn.items} == {0, 1} and {item.label for item in test.items} == {1, 2}
    torch.manual_seed(0)
    eyes = VJEPA2(VJEPA2Config(vit=VIT), SPEC)
    checkpoint.save(folder / "run", eyes, None, 0, None)
    found = understand_labelled(str(folder / "run"), films[0], other, PROBE, frames=2, most=10, quiet=True)
    assert (found["learn"], found["test"]) == (10, 10) and 4 <= found["unlearnt"] <= 6
    again = understand_labelled(str(folder / "run"), films[0], other, PROBE, frames=2, most=10, quiet=True)
    assert json.dumps(again) == json.dumps(found)


def test_what_cannot_be(films: tuple[LabelledSet, LabelledSet], run: str) -> None:
    with pytest.raises(UserError, match="no folder nowhere"):
        understand_labelled("nowhere", *films, PROBE, quiet=True)
    with pytest.raises(UserError, match="15×15 cannot be cut into patches of 8"):
        understand_labelled(run, *films, PROBE, frames=4, size=15, quiet=True)
    with pytest.raises(UserError, match="heads=5 do not divide tokens of 24 channels"):
        understand_labelled(run, *films, PROBE.model_copy(update={"heads": 5}), frames=4, quiet=True)
    few = LabelledSet(films[0].items[:9], films[0].names, 0)
    with pytest.raises(UserError, match="9 films"):
        understand_labelled(run, few, films[1], PROBE, frames=4, quiet=True)
