"""`innerworld doctor`."""

from __future__ import annotations

import json

from innerworld.cli import doctor, main


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
