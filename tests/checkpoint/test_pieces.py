"""Rows of tensors in several files: put together again for any number of readers, and never silently incomplete."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from innerworld import checkpoint
from innerworld.checkpoint.folder import MANIFEST, fingerprint
from innerworld.checkpoint.pieces import Piece, Pieces, bounds, piece, write_pieces
from innerworld.errors import UserError
from innerworld.models.jepa import JEPA, JEPAConfig
from innerworld.types import Spec

WHOLE = torch.arange(30.0).reshape(10, 3)


def write(folder: Path, world: int, value: torch.Tensor = WHOLE) -> list[Path]:
    paths = []
    for rank in range(world):
        start, stop = bounds(len(value), rank, world)
        paths.append(folder / f"weights-{rank:05d}-of-{world:05d}.safetensors")
        write_pieces(paths[-1], {"w": Piece(value[start:stop].clone(), start, tuple(value.shape))}, {"lr": 0.5})
    return paths


@pytest.mark.parametrize("world", [1, 2, 3, 4, 7, 12])
def test_any_number_of_writers_and_readers(world: int, tmp_path: Path) -> None:
    saved = Pieces(write(tmp_path, world))
    assert saved.names() == ["w"] and saved.shapes == {"w": (10, 3)} and saved.scalars == {"lr": 0.5}
    assert torch.equal(saved.read("w"), WHOLE)
    for readers in (1, 2, 3, 5, 11):
        parts = [saved.read("w", *bounds(10, rank, readers)) for rank in range(readers)]
        assert torch.equal(torch.cat(parts), WHOLE)


def test_bounds_are_those_of_torch() -> None:
    for n in (1, 2, 7, 10):
        for world in (1, 2, 3, 4):
            chunks = torch.arange(n).chunk(world)
            for rank in range(world):
                start, stop = bounds(n, rank, world)
                assert list(range(start, stop)) == (chunks[rank].tolist() if rank < len(chunks) else [])


def test_scalars_and_empty_tensors() -> None:
    assert piece(torch.tensor(3.0), sharded=False).whole and piece(torch.zeros(0, 2), sharded=True).whole


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ({"w": [0, [12, 3]]}, "rows of w are missing: 10 of 12"),
        ({"w": [2, [12, 3]]}, "rows 0 to 2 of w are missing"),
        ({"w": [0, [10**15, 3]]}, "rows of w are missing"),
        ({"w": [0, [10, 4]]}, "another shape"),
        ({"w": "x"}, "is broken"),
        ([1], "is broken"),
        ({"w": [0, [5, 3]]}, "rows of w are missing: 10 of 5"),
    ],
)
def test_a_header_that_lies(rows: object, told: str, tmp_path: Path) -> None:
    save_file({"w": WHOLE}, tmp_path / "w", {"innerworld": json.dumps({"rows": rows})})
    with pytest.raises(UserError, match=told):
        Pieces([tmp_path / "w"])


def test_a_part_that_is_missing_is_missed(tmp_path: Path) -> None:
    paths = write(tmp_path, 3)
    with pytest.raises(UserError, match="of w are missing"):
        Pieces(paths[:2])
    with pytest.raises(UserError, match="missing or there twice"):
        Pieces([*paths, paths[0]])


# ---------------------------------------------------------------------- in a checkpoint


def test_a_spread_checkpoint_loads_without_processes_and_its_damage_is_found(tmp_path: Path) -> None:
    """One process's checkpoint cut by hand into two files, as two processes would have written it."""
    folder, model = spread(tmp_path)
    loaded = checkpoint.load(tmp_path)
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())
    second = folder / "weights-00001-of-00002.safetensors"
    content = second.read_bytes()
    second.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match=r"weights-00001-of-00002.safetensors is broken: its sha256"):
        checkpoint.load(folder)
    second.unlink()
    with pytest.raises(UserError, match=r"weights-00001-of-00002.safetensors is missing"):
        checkpoint.load(folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest[second.name]
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="does not name weights"):
        checkpoint.load(folder)


def test_format_1_is_read(tmp_path: Path) -> None:
    """What 0.1 wrote: no new keys in the header, the optimiser's numbers in an entry of their own."""
    model = JEPA(JEPAConfig(latent=2, hidden=4), Spec({"state": (3,)}, 2))
    optimiser = torch.optim.ASGD(model.parameters(), lr=0.1)
    model.eyes.out.weight.sum().backward()
    optimiser.step()
    checkpoint.save(tmp_path, model, optimiser, 4, None)
    folder = tmp_path / "checkpoints" / "step-00000004"
    header = json.loads((folder / "config.json").read_text())
    for key in ("processes", "progress", "scores"):
        del header[key]
    (folder / "config.json").write_text(json.dumps({**header, "format": 1}))
    path = folder / "optimiser.safetensors"
    scalars = Pieces([path]).scalars
    tensors = {key: value for key, value in load_file(path).items() if key not in ("random/python", "random/numpy")}
    save_file(tensors, path, {"scalars": json.dumps(scalars)})
    seal(folder)
    again = JEPA(JEPAConfig(latent=2, hidden=4), Spec({"state": (3,)}, 2))
    other = torch.optim.ASGD(again.parameters(), lr=0.1)
    assert checkpoint.resume(tmp_path, again, other, JEPAConfig()) == 4
    assert torch.equal(again.eyes.out.weight, model.eyes.out.weight)
    assert other.state_dict()["state"].keys() == optimiser.state_dict()["state"].keys()


def spread(run: Path) -> tuple[Path, JEPA]:
    model = JEPA(JEPAConfig(latent=2, hidden=4), Spec({"state": (3,)}, 2))
    checkpoint.save(run, model, None, 1, None)
    folder = run / "checkpoints" / "step-00000001"
    tensors = load_file(folder / "weights.safetensors")
    (folder / "weights.safetensors").unlink()
    for rank in range(2):
        parts = {}
        for name, value in tensors.items():
            start, stop = bounds(len(value), rank, 2)
            parts[name] = Piece(value[start:stop].clone(), start, tuple(value.shape))
        write_pieces(folder / f"weights-{rank:05d}-of-00002.safetensors", parts, {})
    seal(folder)
    return folder, model


def seal(folder: Path) -> None:
    prints = {path.name: fingerprint(path) for path in folder.iterdir() if path.name != MANIFEST}
    (folder / MANIFEST).write_text(json.dumps(prints))
