"""`innerworld doctor`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from innerworld.cli import doctor, main
from innerworld.errors import UserError


def test_doctor_finds_this_place_healthy(capsys):
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    states = {finding["what"]: finding["state"] for finding in found["findings"]}
    assert found["healthy"] is True
    assert states["torch"] == states["device"] == states["self-test"] == "ok"


def test_doctor_prints_a_table(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "_self_test", lambda: doctor.Finding("self-test", "ok", "skipped"))
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["what", "state", "what", "to", "know", "or", "do"]
    assert any(line.startswith("torch ") for line in lines)


def test_a_missing_extra_comes_with_its_cure_and_is_no_failure(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "_self_test", lambda: doctor.Finding("self-test", "ok", "skipped"))
    monkeypatch.setattr(doctor, "find_spec", lambda module: None)
    assert main(["doctor"]) == 0
    assert 'pip install "innerworld[data]"' in capsys.readouterr().out


def test_little_room_on_the_disk_is_told(monkeypatch):
    monkeypatch.setattr(doctor, "ROOM", float("inf"))
    assert doctor._disk().state == "problem"


def test_a_failed_self_test_is_a_failure(capsys, monkeypatch):
    def broken(model):
        raise ArithmeticError("no plan")

    monkeypatch.setattr(doctor, "_plan", broken)
    assert main(["doctor", "--json"]) == 1
    finding = json.loads(capsys.readouterr().out)["findings"][-1]
    assert finding["state"] == "problem"
    assert "ArithmeticError: no plan" in finding["text"]


def test_it_tells_of_the_machine(monkeypatch):
    monkeypatch.setattr(doctor, "_self_test", lambda: doctor.Finding("self-test", "ok", "skipped"))
    answer = doctor._doctor(doctor.DoctorFlags(), None)  # type: ignore[arg-type]
    found = {finding["what"]: finding for finding in answer.values["findings"]}
    for what in ("video", "compile", "distributed", "open files", "threads", "disk", "torchcodec", "ray", "wandb"):
        assert found[what]["text"], what
    assert "gloo" in found["distributed"]["text"]


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 4.0),
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"cpu.max": "max 100000"}, 4.0),
        ({"cpu.max": "torn"}, 4.0),
        ({"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2.0),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 4.0),
    ],
)
def test_cores_are_those_of_the_container(tmp_path: Path, monkeypatch, files: dict[str, str], cores: float):
    monkeypatch.setattr(doctor.os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    monkeypatch.setattr(doctor.sys, "platform", "linux")
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert doctor.cores(tmp_path) == cores


def test_more_threads_than_cores_is_a_problem():
    assert doctor._threads(8, 2.0).state == "problem"
    assert doctor._threads(2, 2.0).state == doctor._threads(1, 0.5).state == "ok"


def test_few_open_files_and_little_shared_memory_are_told(monkeypatch):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda which: (256, 256))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=64e6))
    files, *shared = doctor._limits()
    assert files.state == "problem" and "ulimit -n" in files.text
    assert all(finding.state == "problem" and "--shm-size" in finding.text for finding in shared)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (-1, -1))
    assert doctor._limits()[0].text == "no limit"


def test_without_video_and_without_a_compiler(monkeypatch):
    def none() -> None:
        raise UserError("no video can be read here")

    monkeypatch.setattr("innerworld.data.video.backend", none)
    assert doctor._video() == doctor.Finding("video", "missing", "no video can be read here")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert doctor._compiler().state == "missing"
    monkeypatch.setattr(torch.distributed, "is_available", lambda: False)
    assert doctor._processes().state == "missing"
