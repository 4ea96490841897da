"""Seconds until a user can go on: `import innerworld` after torch, `innerworld --help`, and the same of a peer.

    python bench/import_time.py
    python bench/import_time.py --peer-python PEER/bin/python --peer-module stable_worldmodel

Each in a process of its own, the least of `--repeats`, files in the page cache and byte code compiled (after one run
that is not counted; with PYTHONDONTWRITEBYTECODE everything is slower, on both sides).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

TIMED = """
import time, sys
{before}
wall, cpu = time.perf_counter(), time.process_time()
{code}
print(time.perf_counter() - wall, time.process_time() - cpu)
"""
HELP = """
import contextlib, io
with contextlib.redirect_stdout(io.StringIO()):
    from innerworld.cli import main
    main(["--help"])
"""
OURS = {
    "import torch": ("", "import torch"),
    "import innerworld": ("", "import innerworld"),
    "import innerworld, after torch": ("import torch", "import innerworld"),
    "all of its names, after torch": (
        "import torch",
        "import innerworld\nfor name in innerworld.__all__: getattr(innerworld, name)",
    ),
    "main(['--help'])": ("", HELP),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", type=Path, help="interpreter of the peer's virtual environment")
    parser.add_argument("--peer-module", default="stable_worldmodel", help="what is imported there")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each")
    options = parser.parse_args()
    print(f"{'what':42} {'wall s':>8} {'CPU s':>8}")
    for name, (before, code) in OURS.items():
        show(name, least(Path(sys.executable), before, code, options.repeats))
    show("python -m innerworld --help, whole process", whole(["-m", "innerworld", "--help"], options.repeats))
    if options.peer_python:
        module = options.peer_module
        for name, before in ((f"import {module}", ""), (f"import {module}, after torch", "import torch")):
            show(name, least(options.peer_python, before, f"import {module}", options.repeats))


def least(python: Path, before: str, code: str, repeats: int) -> tuple[float, float]:
    """The least wall and CPU seconds of `code` in a fresh interpreter, after `before`."""
    runs = []
    for _ in range(repeats + 1):
        words = [str(python), "-c", TIMED.format(before=before, code=code)]
        done = subprocess.run(words, capture_output=True, text=True, env=environment())
        if done.returncode:
            sys.exit(f"{code} failed:\n{done.stderr[-2000:]}")
        wall, cpu = map(float, done.stdout.split()[-2:])
        runs.append((wall, cpu))
    return min(wall for wall, _ in runs[1:]), min(cpu for _, cpu in runs[1:])


def whole(words: list[str], repeats: int) -> tuple[float, float]:
    """The least wall and CPU seconds of a whole process, from start to end."""
    runs = []
    for _ in range(repeats + 1):
        before = os.times()
        subprocess.run([sys.executable, *words], check=True, capture_output=True, env=environment())
        after = os.times()
        cpu = after.children_user - before.children_user + after.children_system - before.children_system
        runs.append((after.elapsed - before.elapsed, cpu))
    return min(wall for wall, _ in runs[1:]), min(cpu for _, cpu in runs[1:])


def environment() -> dict[str, str]:
    """With byte code, which some machines forbid to write."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def show(name: str, seconds: tuple[float, float]) -> None:
    print(f"{name:42} {seconds[0]:8.2f} {seconds[1]:8.2f}", flush=True)


if __name__ == "__main__":
    main()
