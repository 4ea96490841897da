"""Whatever a stranger's file asks to be executed is not: each payload would make a folder, and no reader does."""

from __future__ import annotations

import io
import json
import os
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import innerworld
from innerworld.cli import main
from innerworld.data import Store, import_log
from innerworld.data.importers import IMPORTERS
from innerworld.errors import UserError
from innerworld.perception.pretrained import pretrained
from innerworld.types import Spec


class Payload:
    """Unpickled, it makes the folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.marker),)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "executed"


def test_the_payload_works(marker: Path) -> None:
    pickle.loads(pickle.dumps(Payload(marker)))
    assert marker.is_dir()


def npy(payload: Payload) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([payload, payload], dtype=object), allow_pickle=True)
    return file.getvalue()


def npz(path: Path, payload: Payload) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("action.npy", npy(payload))


def zarr(path: Path, codec: str | None, payload: Payload) -> None:
    """A replay whose actions are packed by numcodecs' pickle codec, or are objects."""
    for name, array in {"data/action": np.zeros((4, 2), "<f4"), "data/state": np.zeros((4, 2), "<f4")}.items():
        folder = path / name
        folder.mkdir(parents=True)
        about = {"zarr_format": 2, "shape": array.shape, "chunks": array.shape, "dtype": "<f4", "order": "C"}
        about |= {"compressor": None, "filters": None, "fill_value": 0}
        if name == "data/action":
            about |= {"compressor": {"id": codec}} if codec else {"dtype": "|O", "filters": [{"id": "pickle"}]}
        (folder / ".zarray").write_text(json.dumps(about))
        (folder / "0.0").write_bytes(pickle.dumps(payload) if name == "data/action" else array.tobytes())
    ends = path / "meta" / "episode_ends"
    ends.mkdir(parents=True)
    about = {"zarr_format": 2, "shape": [1], "chunks": [1], "dtype": "<i8", "order": "C", "compressor": None}
    (ends / ".zarray").write_text(json.dumps({**about, "filters": None, "fill_value": 0}))
    (ends / "0").write_bytes((4).to_bytes(8, "little"))


def write_log(folder: Path, what: str, payload: Payload) -> tuple[str, Path]:
    """A log of the kind that it is told to be."""
    match what:
        case "npz of objects":
            npz(folder / "a.npz", payload)
            return "npz", folder
        case "npy alone":
            (folder / "a.npz").write_bytes(npy(payload))
            return "npz", folder
        case "a table of objects":
            (folder / "a.mp4").touch()
            npz(folder / "a.npz", payload)
            return "video", folder
        case "zarr packed by pickle":
            zarr(folder / "log.zarr", "pickle", payload)
            return "zarr", folder / "log.zarr"
        case "zarr of objects":
            zarr(folder / "log.zarr", None, payload)
            return "zarr", folder / "log.zarr"
    (folder / "a.hdf5").write_bytes(pickle.dumps(payload))
    return what.removeprefix("a pickle as "), folder / "a.hdf5"


@pytest.mark.parametrize(
    "what",
    [
        *("npz of objects", "npy alone", "a table of objects", "zarr packed by pickle", "zarr of objects"),
        *(f"a pickle as {kind}" for kind in IMPORTERS),
    ],
)
@pytest.mark.parametrize("on_bad", ["stop", "skip"])
def test_logs(what: str, on_bad: str, tmp_path: Path, marker: Path) -> None:
    (tmp_path / "in").mkdir()
    kind, path = write_log(tmp_path / "in", what, Payload(marker))
    with pytest.raises(UserError) as caught:
        import_log(kind, path, tmp_path / "out", on_bad=on_bad)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert not marker.exists() and not (tmp_path / "out").exists()


@pytest.mark.parametrize("file", ["meta.json", "manifest.jsonl", "statistics.json", "shards/000000.safetensors"])
def test_a_store(file: str, tmp_path: Path, marker: Path) -> None:
    Store.create(tmp_path / "s", Spec({"state": (2,)}, 1))
    (tmp_path / "s" / file).write_bytes(pickle.dumps(Payload(marker)) + b"\n")
    try:
        Store.open(tmp_path / "s").statistics()
    except UserError as error:
        assert file.rpartition("/")[2] in str(error)
    else:
        assert file == "statistics.json"  # which is counted anew
    assert not marker.exists()


@pytest.mark.parametrize("name", ["weights.safetensors", "model.pt", ".metadata"])
def test_a_checkpoint_of_pickles(name: str, tmp_path: Path, marker: Path) -> None:
    """As torch writes them: a module's state, and the .metadata of its distributed checkpoints."""
    file = io.BytesIO()
    torch.save({"x": Payload(marker)}, file)
    (tmp_path / name).write_bytes(file.getvalue())
    (tmp_path / "config.json").write_text('{"format": 2, "family": "jepa"}')
    with pytest.raises(UserError):
        innerworld.load(tmp_path)
    with pytest.raises(UserError):
        pretrained(tmp_path)
    assert not marker.exists()


@pytest.mark.parametrize("key", ["class_path", "_target_", "init_args", "__reduce__", "family"])
@pytest.mark.parametrize("at", ["", "model", "train"])
def test_a_configuration_that_names_what_to_call(
    key: str, at: str, tmp_path: Path, marker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning's, Hydra's and others' way of making objects: here only names that are looked up in a table."""
    (tmp_path / "evil.py").write_text(f"import os\nos.mkdir({str(marker)!r})\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    step = tmp_path / "run" / "checkpoints" / "step-00000001"
    step.mkdir(parents=True)
    save_file({"x": torch.zeros(1)}, step / "weights.safetensors")
    spec = {"obs": {"state": [3]}, "action": 2}
    config = {"format": 2, "family": "jepa", "step": 1, "model": {}, "train": {}, "spec": spec}
    (config[at] if at else config)[key] = "evil.run"  # type: ignore[index]
    (step / "config.json").write_text(json.dumps(config))
    for path in (step, tmp_path / "run"):
        with pytest.raises(UserError):
            innerworld.load(path)
    assert not marker.exists() and "evil" not in sys.modules


@pytest.mark.parametrize("value", ["!!python/object/apply:os.mkdir [executed]", "__import__('os').mkdir('executed')"])
def test_settings_on_the_command_line_are_json_or_text(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Store.create("data", Spec({"state": (2,)}, 1))
    assert main(["train", "jepa", "--data", "data", "--out", "run", f"train.steps={value}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not Path("executed").exists()
