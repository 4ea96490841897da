"""IntPhys and IntPhys 2 in the layouts of their authors: films, labels and pairs come over, damage is named."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from innerworld.data.intphys import read_intphys, read_intphys2
from innerworld.data.video import VideoWriter
from innerworld.errors import UserError

FRAMES, CUT = 6, 3


def film(seed: int, frames: int = FRAMES, size: int = 24) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (frames, size, size, 3), dtype=np.uint8)


def four(seed: int) -> list[np.ndarray]:
    """Two possible films that share a frame, and what comes of exchanging their ends, as IntPhys makes them."""
    a, b = film(seed), film(seed + 1)
    b[CUT] = a[CUT]
    return [a, b, np.concatenate([a[:CUT], b[CUT:]]), np.concatenate([b[:CUT], a[CUT:]])]


def write_scene(folder: Path, films: list[np.ndarray], order: list[int]) -> None:
    """Films 0 and 1 are possible; `order` says which of them are the runs 1 to 4."""
    for number, which in enumerate(order, 1):
        run = folder / str(number)
        (run / "scene").mkdir(parents=True)
        (run / "masks").mkdir()
        for t, picture in enumerate(films[which], 1):
            Image.fromarray(picture).save(run / "scene" / f"scene_{t:03d}.png")
        status = {"header": {"block_name": "O1_test", "is_possible": which < 2}, "frames": [{}] * FRAMES}
        (run / "status.json").write_text(json.dumps(status))


@pytest.fixture
def dev(tmp_path: Path) -> Path:
    for block, seed in (("O1", 0), ("O3", 10)):
        write_scene(tmp_path / "dev" / block / "01", four(seed), [2, 0, 3, 1])
        write_scene(tmp_path / "dev" / block / "02", four(seed + 2), [0, 3, 1, 2])
    return tmp_path / "dev"


def test_intphys_comes_over_with_its_pairs(dev: Path) -> None:
    """Whatever their numbers, an impossible film stands with the possible one that it begins as."""
    found = read_intphys(dev, 24)
    assert found.counts() == {"permanence": 2, "continuity": 2}
    for principle, seed in (("permanence", 0), ("continuity", 10)):
        pixels = found.films(principle, range(2))["pixels"]
        assert pixels.shape == (2, 4, FRAMES, 24, 24, 3) and pixels.dtype == np.uint8
        for films, first in zip(pixels, (seed, seed + 2), strict=True):
            expected = four(first)
            assert {film.tobytes() for film in films[:2]} == {film.tobytes() for film in expected[:2]}
            for possible, impossible in zip(films[:2], films[2:], strict=True):
                np.testing.assert_array_equal(possible[:CUT], impossible[:CUT])


def test_one_block_fewer_frames_and_smaller_pictures(dev: Path) -> None:
    found = read_intphys(dev / "O1", 12, frames=3)
    pixels = found.films("permanence", range(1, 2))["pixels"]
    assert found.counts() == {"permanence": 2} and pixels.shape == (1, 4, 3, 12, 12, 3)
    small = lambda picture: np.rint(picture.reshape(12, 2, 12, 2, 3).mean((1, 3))).astype(np.uint8).tobytes()
    for shown, frame in enumerate((1, 3, 5)):  # the middles of three parts
        assert {film[shown].tobytes() for film in pixels[0]} == {small(film[frame]) for film in four(2)}


def test_what_is_wrong_with_intphys_is_named(dev: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds none of O1, O2, O3"):
        read_intphys(tmp_path, 24)
    status = dev / "O1" / "01" / "2" / "status.json"
    told = status.read_text()
    status.write_text(told.replace("true", "false"))
    with pytest.raises(UserError, match="01 has 1 possible films of 4"):
        read_intphys(dev, 24)
    status.write_text('{"header": {}}')
    with pytest.raises(UserError, match=r"does not tell header\.is_possible"):
        read_intphys(dev, 24)
    status.write_text(told.replace("true", "1"))
    with pytest.raises(UserError, match="is_possible is 1"):
        read_intphys(dev, 24)
    status.unlink()
    with pytest.raises(UserError, match="a test set cannot be judged on"):
        read_intphys(dev, 24)
    status.write_text(told)
    (dev / "O1" / "01" / "4" / "scene" / "scene_006.png").unlink()
    with pytest.raises(UserError, match="5 frames, others of its scene 6"):
        read_intphys(dev, 24).films("permanence", range(1))
    assert read_intphys(dev, 24, frames=4).films("permanence", range(1))["pixels"].shape[2] == 4
    (dev / "O2").mkdir()
    with pytest.raises(UserError, match="O2 has no scenes"):
        read_intphys(dev, 24)


# ---------------------------------------------------------------------- IntPhys 2

ROWS = ["1_Possible", "1_Impossible", "2_Impossible", "2_Possible"]
COLUMNS = [
    *["SceneIndex", "name", "file_name", "game_name", "condition"],
    *["env", "type", "occluder", "Difficulty", "Camera"],
]


def write_list(folder: Path, rows: list[dict[str, str]]) -> None:
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="None")
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def main_split(tmp_path: Path) -> tuple[Path, list[dict[str, str]]]:
    """One scene of solidity and one of continuity; each film has a brightness of its own."""
    root = tmp_path / "Main"
    (root / "Videos").mkdir(parents=True)
    rows = []
    for scene, condition in enumerate(("solidity", "continuity")):
        for i, kind in enumerate(ROWS):
            name = f"Videos/{scene}{i}.mp4"
            with VideoWriter(root / name, 10) as writer:
                for _ in range(FRAMES):
                    writer.add(np.full((32, 48, 3), 40 * (i + 1), np.uint8))
            rows.append({"SceneIndex": str(scene), "file_name": name, "condition": condition, "type": kind})
    write_list(root, rows)
    return root, rows


def test_intphys2_comes_over(main_split: tuple[Path, list[dict[str, str]]]) -> None:
    found = read_intphys2(main_split[0], 16, frames=4)
    assert found.counts() == {"solidity": 1, "continuity": 1}
    pixels = found.films("continuity", range(1))["pixels"]
    assert pixels.shape == (1, 4, 4, 16, 16, 3)
    light = pixels[0].mean(axis=(1, 2, 3, 4))
    np.testing.assert_allclose(light, [40, 160, 80, 120], atol=3)  # 1 and 2 possible, then 1 and 2 impossible


@pytest.mark.parametrize("column", ["filename", "name"])
def test_films_may_be_named_without_folder_and_ending(
    main_split: tuple[Path, list[dict[str, str]]], column: str
) -> None:
    """The authors' own scripts read such lists; two of the conditions are counted under another one."""
    root, rows = main_split
    variants = {"solidity": "immutability_texture", "continuity": "continuity_swap"}
    with (root / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["SceneIndex", column, "condition", "type"])
        writer.writeheader()
        for row in rows:
            named = {column: Path(row["file_name"]).stem, "condition": variants[row["condition"]]}
            writer.writerow({"SceneIndex": row["SceneIndex"], "type": row["type"], **named})
    found = read_intphys2(root, 16, frames=2)
    assert found.counts() == {"immutability": 1, "continuity": 1}
    assert found.films("continuity", range(1))["pixels"].shape == (1, 4, 2, 16, 16, 3)


def test_what_is_wrong_with_intphys2_is_named(main_split: tuple[Path, list[dict[str, str]]]) -> None:
    root, rows = main_split
    for change, told in (
        (rows[:-1], "scene 1 has 1_Possible, 1_Impossible, 2_Impossible, not all four"),
        ([{**rows[0], "type": "3_Possible"}, *rows[1:]], "row 1: type '3_Possible' is unknown"),
        ([*rows, rows[0]], "row 9: type '1_Possible' is unknown, or there twice"),
        ([{**rows[0], "file_name": "../x.mp4"}, *rows[1:]], "outside of it"),
        ([], "lists no films"),
    ):
        write_list(root, change)
        with pytest.raises(UserError, match=told):
            read_intphys2(root, 16)
    (root / "metadata.csv").write_text("SceneIndex,name\n0,x\n")
    with pytest.raises(UserError, match="no column 'condition'"):
        read_intphys2(root, 16)
    (root / "metadata.csv").write_text("SceneIndex,condition,type\n0,solidity,1_Possible\n")
    with pytest.raises(UserError, match="no column 'file_name', 'filename' or 'name'"):
        read_intphys2(root, 16)
    (root / "metadata.csv").unlink()
    with pytest.raises(UserError, match="cannot read"):
        read_intphys2(root, 16)
    write_list(root, rows)
    (root / "Videos" / "00.mp4").unlink()
    with pytest.raises(UserError, match=r"00\.mp4"):
        read_intphys2(root, 16).films("solidity", range(1))
