"""TFRecord framing, checksums and protocol buffers as their specifications say; RLDS nested, joined, compressed."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from innerworld.data import import_log
from innerworld.data.importers.rlds import RldsConfig
from innerworld.data.importers.tfrecord import crc32c, example, read_record, spans
from innerworld.errors import UserError
from innerworld.types import Spec


def test_the_checksum_of_the_standard() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # RFC 3720, B.4, as the next three
    assert crc32c(bytes(32)) == 0x8A9136AA and crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 511, 512, 513, 1000, 5000])
def test_the_checksum_in_lanes_is_that_of_the_plain_loop(size: int) -> None:
    data = np.random.default_rng(size).integers(0, 256, size, np.uint8).tobytes()
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    assert crc32c(data) == state ^ 0xFFFFFFFF


@settings(max_examples=40, deadline=None)
@given(
    whole=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20),
    floats=st.lists(st.floats(width=32, allow_nan=False), max_size=20),
    raw=st.lists(st.binary(max_size=300), max_size=5),
)
def test_an_example_comes_back(logs: ModuleType, whole: list[int], floats: list[float], raw: list[bytes]) -> None:
    data = logs.write_example({"a": np.array(whole, np.int64), "b/c": np.array(floats, np.float32), "d": raw})
    found = example(data)
    assert np.asarray(found["a"]).tolist() == whole and np.asarray(found["b/c"]).tolist() == floats
    assert list(found["d"]) == raw


def test_numbers_that_are_not_packed_are_read_too() -> None:
    one, two = b"\x08\x05", b"\x08\xac\x02"  # field 1 as a plain whole number: 5, 300
    feature = b"\x1a" + bytes([len(one + two)]) + one + two
    entry = b"\x0a\x01x\x12" + bytes([len(feature)]) + feature
    features = b"\x0a" + bytes([len(entry)]) + entry
    assert np.asarray(example(b"\x0a" + bytes([len(features)]) + features)["x"]).tolist() == [5, 300]


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        example(data)
    except UserError as error:
        assert "tf.train.Example" in str(error)


def test_the_rest_of_a_file_after_a_bad_length_is_lost_and_said(logs: ModuleType, tmp_path: Path) -> None:
    records = [logs.write_record(bytes([i]) * 300) for i in range(3)]
    file = tmp_path / "a.tfrecord"
    file.write_bytes(records[0] + b"\x01" + records[1][1:] + records[2])
    found = list(spans(file))
    assert found[0] == (12, 300) and "does not match its checksum" in str(found[1]) and len(found) == 2
    file.write_bytes(b"".join(records)[:-5])
    assert "truncated" in str(list(spans(file))[2])
    file.write_bytes(records[0][:50] + b"x" + records[0][51:])
    with pytest.raises(UserError, match=r"a\.tfrecord is corrupt: the record at byte 12"):
        read_record(file, 12, 300)


# ---------------------------------------------------------------------- RLDS


def tensor(dtype: str, *shape: int, encoding: str = "none") -> dict[str, Any]:
    dimensions = {"dimensions": [str(size) for size in shape]} if shape else {}
    return {"tensor": {"shape": dimensions, "dtype": dtype, "encoding": encoding}}


def folded(parts: dict[str, Any]) -> dict[str, Any]:
    return {"featuresDict": {"features": parts}}


def write(logs: ModuleType, folder: Path, steps: dict[str, Any], records: list[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True)
    about = folded({"steps": {"sequence": {"feature": folded(steps), "length": "-1"}}})
    (folder / "features.json").write_text(json.dumps(about))
    data = b"".join(logs.write_record(logs.write_example(each)) for each in records)
    (folder / "x-train.tfrecord-00000-of-00001").write_bytes(data)
    return folder


STEPS = {
    "observation": folded({"arm": folded({"joints": tensor("float64", 2, encoding="zlib")}), "told": {"text": {}}}),
    "action": folded({"open": tensor("int32"), "move": tensor("float32", 2)}),
    "embedding": tensor("float32", 3),
    "is_terminal": tensor("bool"),
}
JOINTS = np.arange(8, dtype=np.float64).reshape(4, 2)


def record(**change: Any) -> dict[str, Any]:
    return {
        "steps/observation/arm/joints": [zlib.compress(row.tobytes()) for row in JOINTS],
        "steps/observation/told": [b"go"] * 4,
        "steps/action/open": np.array([0, 4, 2, 99]),
        "steps/action/move": np.array([[1, -1]] * 4, np.float32),
        "steps/embedding": np.ones((4, 3), np.float32),
        "steps/is_terminal": np.array([0, 0, 0, 1]),
    } | change


def test_nested_parts_are_named_and_actions_joined(logs: ModuleType, tmp_path: Path) -> None:
    path = write(logs, tmp_path / "in", STEPS, [record(), record()])
    store, skipped = import_log("rlds", path, tmp_path / "out", RldsConfig(extra=("embedding",)))
    assert not skipped and store.spec == Spec({"arm.joints": (2,), "embedding": (3,)}, 3)
    clip = store.episode(1)
    assert clip.obs["arm.joints"][0].tolist() == JOINTS.tolist() and clip.terminated.tolist() == [[False, False, True]]
    # In the order of their names, move before open, each between the bounds of what is used of it.
    assert clip.action[0, :, 2].tolist() == [-1, 1, 0] and clip.action[0, :, :2].tolist() == [[0, 0]] * 3
    assert store.meta.about.more["left_out"] == ["told"]
    store, _ = import_log("rlds", path, tmp_path / "open", RldsConfig(action=("action/open",)))
    assert store.spec.action == 1 and store.meta.about.action_high == (4,)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"steps/observation/arm/joints": [b"nonsense"] * 4}, "joints is corrupt"),
        ({"steps/observation/arm/joints": [zlib.compress(bytes(9_000_000))] * 4}, "joints has 17 bytes"),
        ({"steps/observation/arm/joints": [zlib.compress(bytes(16))] * 3}, "different numbers of steps"),
        ({"steps/action/move": np.zeros(7, np.float32)}, "no multiple of"),
        ({"steps/action/move": np.zeros((5, 2), np.float32)}, "different numbers of steps"),
        ({"steps/action/move": np.array([[np.nan, 1]] * 4, np.float32)}, "action is not finite"),
    ],
)
def test_a_bad_record_is_named_or_skipped(logs: ModuleType, tmp_path: Path, change: dict[str, Any], told: str) -> None:
    path = write(logs, tmp_path / "in", STEPS, [record(), record(**change)])
    with pytest.raises(UserError, match=f"x-train.* record 1: .*{told}"):
        import_log("rlds", path, tmp_path / "out")
    store, skipped = import_log("rlds", path, tmp_path / "out", on_bad="skip")
    assert len(store) == 1 and len(skipped) == 1


def test_what_features_json_may_not_say(logs: ModuleType, tmp_path: Path) -> None:
    path = write(logs, tmp_path / "in", STEPS, [record()])
    for wrong, told in (
        ({"split": "val"}, "no .tfrecord files of split 'val'"),
        ({"extra": ("speech",)}, "a step has no 'speech'"),
        ({"action": ("embed",)}, "'embed' cannot be an action"),
        ({"sensors": ("told",)}, "no sensor 'told' here"),
    ):
        with pytest.raises(UserError, match=told):
            import_log("rlds", path, tmp_path / "out", RldsConfig(**wrong))
    for text, told in (("{}", "not of RLDS"), ("[" * 99_999, "corrupt"), ("{", "corrupt")):
        (path / "features.json").write_text(text)
        with pytest.raises(UserError, match=f"features.json is .*{told}"):
            import_log("rlds", path, tmp_path / "out")
    (path / "features.json").unlink()
    with pytest.raises(UserError, match=r"has no features\.json"):
        import_log("rlds", path, tmp_path / "out")


def test_pictures_of_another_size_and_bombs_are_refused(logs: ModuleType, tmp_path: Path) -> None:
    steps = {"observation": folded({"eye": {"image": {"shape": {"dimensions": ["-1", "-1", "3"]}, "dtype": "uint8"}}})}
    small, large = (logs.png(np.zeros((side, side, 3), np.uint8)) for side in (8, 9))
    path = write(logs, tmp_path / "a", steps, [{"steps/observation/eye": [small, large]}])
    with pytest.raises(UserError, match="record 0: a picture is 9 x 9 pixels"):
        import_log("rlds", path, tmp_path / "out")
    header = b"IHDR" + struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    ends = b"\0\0\0\0IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
    huge = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + ends
    path = write(logs, tmp_path / "b", steps, [{"steps/observation/eye": [huge, huge]}])
    with pytest.raises(UserError, match="record 0: a picture"):
        import_log("rlds", path, tmp_path / "out")
    gif = b"GIF89a" + bytes(20)
    path = write(logs, tmp_path / "c", steps, [{"steps/observation/eye": [gif, gif]}])
    with pytest.raises(UserError, match="record 0: a picture cannot be read"):
        import_log("rlds", path, tmp_path / "out")
