"""What a place promises of jobs, on processes of this machine: order, names, retries, a clean stop."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from innerworld.cluster import JobError, Local, Stopped, connect
from innerworld.errors import UserError

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))


@pytest.fixture(autouse=True)
def nobody_is_left():
    yield
    assert not multiprocessing.active_children()


def test_results_come_in_the_order_of_the_jobs() -> None:
    import chores

    seen: list[tuple[int, int]] = []
    assert Local(2).map(chores.first_is_last, range(4), lambda *told: seen.append(told)) == [0, 1, 2, 3]
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_no_jobs_need_no_worker() -> None:
    assert Local(2).map(abs, []) == []


@pytest.mark.slow
def test_arrays_travel_and_what_is_shared_is_sent_once() -> None:
    import chores

    pictures = Local(1).map(chores.picture, [1, 2])
    assert [picture.mean() for picture in pictures] == [1, 2]
    shared = np.full(2_000_000, 2.0)
    assert Local(2).map(partial(chores.scaled, shared), range(3)) == [0.0, 2.0, 4.0]


def test_a_worker_has_its_threads_and_no_word_on_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    import chores

    assert Local(1, threads=2).map(chores.threads, [0]) == [2]
    out, err = capfd.readouterr()
    assert out == "" and "chatters" in err


@pytest.mark.slow
def test_a_job_that_fails_names_itself() -> None:
    import chores

    with pytest.raises(UserError, match=r"^job world 2: there is no such world$"):
        Local(1).map(chores.mistake, [0, 2], name=lambda x: f"world {x}")
    with pytest.raises(JobError, match=r"job 3: ValueError: a bug\n\nin the worker:\nTraceback(.|\n)*in mistake"):
        Local(1).map(chores.mistake, [3])
    with pytest.raises(JobError, match="the result cannot be sent"):
        Local(1).map(chores.nothing_to_send, [3])


def test_one_failure_stops_no_other_when_each_is_asked() -> None:
    import chores

    ended = {done.index: done for done in Local(2).each(chores.mistake, range(5))}
    assert {index: done.result for index, done in ended.items() if done.failure is None} == {0: 0, 1: 1, 4: 4}
    assert ended[2].failure is not None and ended[2].failure.line == "there is no such world"


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_its_job_tried_again(tmp_path: Path) -> None:
    import chores

    paths = [str(tmp_path / name) for name in "abc"]
    assert Local(2).map(chores.die_once, paths) == paths
    with pytest.raises(UserError, match=r"^job 0: its worker died 2 times \(signal SIGKILL\)"):
        Local(1, retries=1).map(chores.die, [0])


@pytest.mark.slow
def test_ctrl_c_stops_all_and_keeps_what_is_finished() -> None:
    import chores

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(Stopped) as stopped:
        Local(2).map(chores.wait, [0, 60], stop)
    assert list(stopped.value.finished) == [0]
    assert time.monotonic() - began < 20


@pytest.mark.slow
def test_a_job_may_save_before_it_is_stopped(tmp_path: Path) -> None:
    import chores

    path = tmp_path / "note"
    with closing(Local(2).each(chores.saves, [(str(path), True), (str(path), False)])) as ended:
        next(ended)
    assert path.read_text() == "saved"


@pytest.mark.slow
def test_a_job_that_will_not_stop_is_killed(tmp_path: Path) -> None:
    import chores

    path = str(tmp_path / "note")
    with closing(Local(2, grace_s=0.2).each(chores.stubborn, [(path, True), (path, False)])) as ended:
        next(ended)
        began = time.monotonic()
    assert time.monotonic() - began < 20


@pytest.mark.slow
def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(HERE)!r})\nimport chores\nfrom innerworld.cluster import Local\n"
        "if __name__ == '__main__':\n"
        "    for done in Local(1).each(chores.wait, [0, 60]):\n        print(done.result, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        parent.kill()
    until = time.monotonic() + 10
    while _runs(worker) and time.monotonic() < until:
        time.sleep(0.05)
    assert not _runs(worker)


@pytest.mark.slow
def test_a_script_without_a_guard_is_told_so(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("from innerworld.cluster import Local\nprint(Local(1, retries=1).map(abs, [1]))\n")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    assert 'must begin its work under if __name__ == "__main__"' in done.stderr


def test_mistakes() -> None:
    with pytest.raises(UserError, match=r"unknown cluster 'lokal'. Did you mean 'local'?"):
        connect("lokal")
    with pytest.raises(UserError, match="--workers is at least 1, got 0"):
        connect("local", 0)


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r'pip install "innerworld\[cluster\]"'):
        connect("ray")


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
