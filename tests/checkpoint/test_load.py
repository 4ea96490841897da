"""Checkpoints: what comes back is what was saved, and every kind of damage is told from the others in one line."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import Field
from torch import Tensor, nn

from innerworld import checkpoint
from innerworld.checkpoint import header
from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.types import Clip, Obs, Spec, State
from innerworld.world import WorldModel

SPEC = Spec({"state": (3,), "image": (8, 8, 3)}, action=2, discrete=True)
FILES = ["config.json", "weights.safetensors", "optimiser.safetensors", "manifest.json"]


class Body(Config):
    width: int = Field(default=4, description="of the latent")


class Linear(WorldModel):
    """Linear, with a tied weight, a buffer, a transposed parameter and an empty one."""

    class Config(Config):
        body: Body = Field(default=Body(), description="the rest")
        scale: float = Field(default=1.0, description="of the loss")

    def __init__(self, config: Linear.Config, spec: Spec) -> None:
        super().__init__(config, spec)
        width = config.body.width
        self.look = nn.Linear(3, width)
        self.again = self.look
        self.turned = nn.Parameter(torch.randn(2, width).T)
        self.empty = nn.Parameter(torch.zeros(0))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        return {"z": self.look(obs["state"])}

    def predict(self, state: State, action: Tensor, rng: torch.Generator | None = None) -> State:
        return {"z": state["z"] + action @ self.turned.T}

    def energy(self, state: State, goal: State) -> Tensor:
        return (state["z"] - goal["z"]).square().mean(-1)

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        return self.energy(self.encode(clip.at(0)), self.encode(clip.at(1))).mean(), {}


class Settings(Config):
    lr: float = Field(default=0.1, description="learning rate")
    steps: int = Field(default=10, description="in all")


MODELS = {"Linear": Linear}


def build(width: int = 4) -> Linear:
    torch.manual_seed(width)
    return Linear(Linear.Config(body=Body(width=width)), SPEC)


def trained(model: WorldModel, kind: type[torch.optim.Optimizer] = torch.optim.AdamW) -> torch.optim.Optimizer:
    optimiser = kind(model.parameters(), lr=0.1)  # type: ignore[call-arg]
    sum(p.square().sum() for p in model.parameters()).backward()  # type: ignore[union-attr]
    optimiser.step()
    return optimiser


def write(run: Path, *steps: int, keep: int = 9) -> Linear:
    """A run with some checkpoints; the model of the last, in whose `count` is its step."""
    model = build()
    for step in steps:
        optimiser = trained(model)
        model.get_buffer("count").fill_(step)
        checkpoint.save(run, model, optimiser, step, Settings(), keep)
    return model


def step_folder(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"step-{step:08d}"


def change(folder: Path, name: str, **values: Any) -> None:
    """Edit a JSON file and make the manifest agree, as a hostile author would."""
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    seal(folder)


def seal(folder: Path) -> None:
    manifest = {}
    for name in FILES[:3]:
        content = (folder / name).read_bytes()
        manifest[name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def test_what_comes_back_is_what_was_saved(tmp_path: Path) -> None:
    model = write(tmp_path, 7)
    state = torch.get_rng_state()
    loaded = checkpoint.load(tmp_path, MODELS)
    assert torch.equal(torch.get_rng_state(), state)
    assert type(loaded) is Linear
    assert (loaded.config, loaded.spec) == (model.config, model.spec)
    assert loaded.again is loaded.look
    assert not loaded.training
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def test_files_and_header(tmp_path: Path) -> None:
    write(tmp_path, 7)
    assert sorted(path.name for path in step_folder(tmp_path, 7).iterdir()) == sorted(FILES)
    told = json.loads((step_folder(tmp_path, 7) / "config.json").read_text())
    assert (told["format"], told["family"], told["step"]) == (2, "Linear", 7)
    assert told["model"] == {"body": {"width": 4}, "scale": 1.0}
    assert told["spec"] == {"obs": {"state": [3], "image": [8, 8, 3]}, "action": 2, "discrete": True}
    assert told["train"] == {"lr": 0.1, "steps": 10}
    assert told["created"].endswith("+00:00")


def test_a_run_gives_its_newest_and_a_folder_itself(tmp_path: Path) -> None:
    write(tmp_path, 5, 100, 20)
    assert checkpoint.load(tmp_path, MODELS).get_buffer("count") == 100
    assert checkpoint.load(tmp_path / "checkpoints", MODELS).get_buffer("count") == 100
    assert checkpoint.load(step_folder(tmp_path, 5), MODELS).get_buffer("count") == 5
    assert checkpoint.read_header(tmp_path).step == 100


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD, torch.optim.Adagrad, torch.optim.ASGD])
def test_resume_restores_optimiser_and_random_state(tmp_path: Path, kind: type[torch.optim.Optimizer]) -> None:
    model = build()
    optimiser = trained(model, kind)
    torch.manual_seed(5)
    checkpoint.save(tmp_path, model, optimiser, 3, Settings())
    expected = torch.rand(3)
    other = Linear(model.config, SPEC)
    optimiser_other = kind(other.parameters(), lr=0.1)  # type: ignore[call-arg]
    assert checkpoint.resume(tmp_path, other, optimiser_other, Settings()) == 3
    assert torch.equal(torch.rand(3), expected)
    for a, b in zip(
        optimiser.state_dict()["state"].values(), optimiser_other.state_dict()["state"].values(), strict=True
    ):
        assert a.keys() == b.keys()
        assert all(torch.equal(torch.as_tensor(a[what]), torch.as_tensor(b[what])) for what in a)


def test_weights_to_begin_with(tmp_path: Path) -> None:
    """They are the newest whole checkpoint's, whatever else the settings say; the random state is left alone."""
    write(tmp_path, 3, 7)
    fresh = Linear(Linear.Config(scale=2.0), SPEC)
    state = torch.get_rng_state()
    checkpoint.init_from(tmp_path, fresh)
    taught = checkpoint.load(tmp_path, MODELS).state_dict()
    assert all(torch.equal(value, taught[name]) for name, value in fresh.state_dict().items())
    assert fresh.get_buffer("count") == 7 and torch.equal(torch.get_rng_state(), state)
    checkpoint.init_from(step_folder(tmp_path, 3), fresh)
    assert fresh.get_buffer("count") == 3


def test_weights_of_what_is_something_else(tmp_path: Path) -> None:
    write(tmp_path, 3)
    with pytest.raises(UserError, match=r"look.weight is .*4, 3.*expected .*5, 3"):
        checkpoint.init_from(tmp_path, build(5))
    with pytest.raises(UserError, match="cannot begin with its weights: the run was made for Spec"):
        checkpoint.init_from(tmp_path, Linear(Linear.Config(), Spec({"state": (3,)}, action=2)))

    class Other(Linear):
        """Of another name."""

    with pytest.raises(UserError, match="is a 'Linear', this is a 'Other'"):
        checkpoint.init_from(tmp_path, Other(Linear.Config(), SPEC))


def test_resume_where_nothing_is(tmp_path: Path) -> None:
    model = build()
    assert checkpoint.resume(tmp_path, model, trained(model), Settings()) is None
    write(tmp_path, 1)
    with pytest.raises(UserError, match=f"give the folder of the run, {tmp_path}$"):
        checkpoint.resume(step_folder(tmp_path, 1), model, trained(model), Settings())


def test_resume_with_other_settings(tmp_path: Path) -> None:
    model = write(tmp_path, 3)
    with pytest.raises(UserError, match=r"train lr was 0.1, now 0.2"):
        checkpoint.resume(tmp_path, model, trained(model), Settings(lr=0.2))
    assert checkpoint.resume(tmp_path, model, trained(model), Settings(steps=20), free=("steps",)) == 3
    other = build(5)
    with pytest.raises(UserError, match=r"model body.width was 4, now 5"):
        checkpoint.resume(tmp_path, other, trained(other), Settings())
    narrow = Linear(model.config, SPEC.only("state"))
    with pytest.raises(UserError, match=r"made for Spec\("):
        checkpoint.resume(tmp_path, narrow, trained(narrow), Settings())


def test_tied_weights_that_are_no_longer_tied_do_not_fit(tmp_path: Path) -> None:
    class Untied(Linear):
        def __init__(self, config: Linear.Config, spec: Spec) -> None:
            super().__init__(config, spec)
            self.again = nn.Linear(3, config.body.width)

    write(tmp_path, 1)
    with pytest.raises(UserError, match=r"does not fit Untied: again.bias is missing; again.weight is missing"):
        checkpoint.load(tmp_path, {"Linear": Untied})


def test_weights_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    class Other(Linear):
        def __init__(self, config: Linear.Config, spec: Spec) -> None:
            super().__init__(config, spec)
            self.more = nn.Linear(1, 1)
            self.turned = nn.Parameter(torch.zeros(9, 9))
            self.look.double()
            del self.count

    write(tmp_path, 1)
    with pytest.raises(UserError) as caught:
        checkpoint.load(tmp_path, {"Linear": Other})
    text = str(caught.value)
    assert "count is unexpected; look.bias is (4,) float32, expected (4,) float64" in text
    assert "more.bias is missing; and 2 more" in text
    assert "\n" not in text


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped", "empty"])
def test_damage_is_found_named_and_survived(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, damage: str
) -> None:
    model = write(tmp_path, 1, 2)
    path = step_folder(tmp_path, 2) / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 8
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"truncated": content[: len(content) // 2], "flipped": content, "empty": b""}[damage])

    assert checkpoint.resume(tmp_path, model, trained(model), Settings()) == 1
    assert model.get_buffer("count") == 1
    assert len(caplog.messages) == 1
    assert caplog.messages[0].endswith("; using step-00000001 instead")
    if name != "manifest.json" or damage != "flipped":  # a flipped digit of a checksum blames the file it is of
        assert str(path) in caplog.messages[0]


def test_a_broken_folder_that_is_named_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, 1, 2)
    (step_folder(tmp_path, 2) / "weights.safetensors").write_bytes(b"x")
    with pytest.raises(UserError, match=r"step-00000002/weights.safetensors is broken: 1 bytes instead of \d+"):
        checkpoint.load(step_folder(tmp_path, 2), MODELS)
    assert checkpoint.load(tmp_path, MODELS).get_buffer("count") == 1


def test_nothing_whole_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no checkpoint in"):
        checkpoint.load(tmp_path, MODELS)
    with pytest.raises(UserError, match="no checkpoint in"):
        checkpoint.load(tmp_path / "nowhere", MODELS)
    write(tmp_path, 1)
    (step_folder(tmp_path, 1) / "config.json").unlink()
    with pytest.raises(UserError, match=r"is whole: .*config.json is missing"):
        checkpoint.load(tmp_path, MODELS)


def test_one_flipped_bit_anywhere_in_the_weights_is_found(tmp_path: Path) -> None:
    write(tmp_path, 1)
    path = step_folder(tmp_path, 1) / "weights.safetensors"
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(UserError, match=r"weights.safetensors is broken"):
            checkpoint.load(step_folder(tmp_path, 1), MODELS)


def test_weights_alone_suffice_to_load(tmp_path: Path) -> None:
    write(tmp_path, 1)
    (step_folder(tmp_path, 1) / "optimiser.safetensors").unlink()
    assert checkpoint.load(tmp_path, MODELS).get_buffer("count") == 1


@pytest.mark.parametrize("version", [3, 99, "1", None])
def test_a_format_from_the_future(tmp_path: Path, version: object) -> None:
    write(tmp_path, 1, 2)
    change(step_folder(tmp_path, 2), "config.json", format=version, unheard="of")
    with pytest.raises(UserError, match=r"config.json: format .* upgrade innerworld"):
        checkpoint.load(tmp_path, MODELS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": {"scael": 2.0}}, "unknown key '.*model.scael'. Did you mean 'scale'"),
        ({"model": {"body": {"widht": 2}}}, "unknown key '.*model.body.widht'. Did you mean 'width'"),
        ({"model": {"scale": "much"}}, "model.scale: "),
        ({"famly": "Linear"}, "unknown key '.*famly'. Did you mean 'family'"),
        ({"spec": {"obs": {"state": [3]}, "acton": 2}}, "unknown key '.*acton'. Did you mean 'action'"),
        ({"spec": {"obs": {"state": [3, 3, 3, 3]}, "action": 2}}, "neither an image"),
        ({"step": "soon"}, "step: "),
    ],
)
def test_wrong_keys_and_values_are_named(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    write(tmp_path, 1)
    change(step_folder(tmp_path, 1), "config.json", **values)
    with pytest.raises(UserError, match=message):
        checkpoint.load(tmp_path, MODELS)


@pytest.mark.parametrize(
    "family", ["Liner", "tests.evil.Model", "os.system", "__import__('os').mkdir('hacked')", "../../evil", "!!python/x"]
)
def test_a_family_is_looked_up_and_never_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry: None, family: str
) -> None:
    write(tmp_path, 1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "evil.py").write_text("raise SystemExit('imported')")
    modules = set(sys.modules)
    change(step_folder(tmp_path, 1), "config.json", family=family, model={"scale": 2.0})
    with pytest.raises(UserError, match="unknown family") as caught:
        checkpoint.load(tmp_path, MODELS)
    assert not Path("hacked").exists()
    assert set(sys.modules) == modules
    assert ("Did you mean 'Linear'?" in str(caught.value)) == (family == "Liner")


def test_the_manifest_cannot_point_elsewhere(tmp_path: Path) -> None:
    write(tmp_path, 1)
    manifest = step_folder(tmp_path, 1) / "manifest.json"
    for content in (
        "[]",
        "null",
        "[" * 100_000,
        '{"weights.safetensors": "../../x"}',
        '{"../config.json": {}}',
        "\xff",
    ):
        manifest.write_text(content, encoding="latin-1")
        with pytest.raises(UserError, match=r"manifest.json (is broken|does not name)"):
            checkpoint.load(tmp_path / "checkpoints" / "step-00000001", MODELS)


def test_weights_that_are_a_pickle_are_not_opened(tmp_path: Path) -> None:
    write(tmp_path, 1)
    torch.save({"x": torch.zeros(1)}, step_folder(tmp_path, 1) / "weights.safetensors")
    seal(step_folder(tmp_path, 1))
    with pytest.raises(UserError, match=r"weights.safetensors is broken"):
        checkpoint.load(step_folder(tmp_path, 1), MODELS)


def test_keep_deletes_the_oldest_and_sweeps(tmp_path: Path) -> None:
    write(tmp_path, 1, 2, 3)
    (tmp_path / "checkpoints" / ".tmp-step-00000004-123").mkdir()
    (tmp_path / "checkpoints" / "notes.txt").write_text("mine")
    write(tmp_path, 4, keep=2)
    assert names(tmp_path) == ["notes.txt", "step-00000003", "step-00000004"]
    write(tmp_path, 5, keep=0)
    assert names(tmp_path) == ["notes.txt", "step-00000005"]


def test_keep_never_prefers_a_broken_later_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, 1, 9)
    (step_folder(tmp_path, 9) / "weights.safetensors").unlink()
    write(tmp_path, 5, keep=1)
    assert checkpoint.load(tmp_path, MODELS).get_buffer("count") == 5
    write(tmp_path, 9, keep=1)
    caplog.clear()
    assert checkpoint.load(tmp_path, MODELS).get_buffer("count") == 9
    assert names(tmp_path) == ["step-00000009"]
    assert not caplog.messages


@pytest.mark.parametrize("call", range(1, 5))
def test_a_full_disk_leaves_the_old_and_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    write(tmp_path, 1, 2)
    calls = []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) == call:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"step 3 .* no space left: make room. Earlier checkpoints are intact"):
        write(tmp_path, 3, keep=1)
    assert names(tmp_path) == ["step-00000001", "step-00000002"]
    assert checkpoint.load(tmp_path, MODELS).get_buffer("count") == 2


def test_a_file_limit_of_the_system_is_told(tmp_path: Path) -> None:
    """A real failing write, in the middle of the weights."""
    write(tmp_path, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, hard))
    try:
        with pytest.raises(UserError, match="cannot save the checkpoint of step 2"):
            checkpoint.save(tmp_path, build(200), None, 2, None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == ["step-00000001"]


def test_an_interrupt_while_saving_leaves_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, 1)
    assert names(tmp_path) == []


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match="Not a directory"):
        write(tmp_path / "run", 1)


def test_a_weight_that_is_not_finite_is_not_saved_but_such_a_buffer_is(tmp_path: Path) -> None:
    model = write(tmp_path, 1)
    model.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    checkpoint.save(tmp_path, model, None, 2, None)
    with torch.no_grad():
        model.look.weight[0, 0] = torch.nan
    with pytest.raises(UserError, match=r"step 3: weight 'look.weight' is not finite"):
        checkpoint.save(tmp_path, model, None, 3, None, keep=1)
    assert names(tmp_path) == ["step-00000001", "step-00000002"]


def test_what_cannot_be_saved_is_named(tmp_path: Path) -> None:
    class Extra(Linear):
        def get_extra_state(self) -> object:
            return {"python": object()}

    with pytest.raises(UserError, match="'_extra_state' of Extra: it is no tensor"):
        checkpoint.save(tmp_path, Extra(Linear.Config(), SPEC), None, 1, None)
    assert not checkpoint.exists(tmp_path)


def test_the_commit_is_that_of_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    header._git_commit.cache_clear()
    assert header._git_commit() is None
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    subprocess.run([*git, "tag", "v1"], check=True)
    header._git_commit.cache_clear()
    commit = header._git_commit()
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert commit == head
    header._git_commit.cache_clear()


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry with one entry, so that an unknown family does not import all of the library's."""
    module = type(sys)("innerworld.families")
    module.FAMILIES = {"oracle": Linear}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "innerworld.families", module)


@pytest.fixture(autouse=True)
def warnings_only(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
