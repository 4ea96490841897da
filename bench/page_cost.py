"""What the page of a training costs beside the training: `python bench/page_cost.py`.

A JEPA and a V-JEPA 2 are taught for about a minute each on films of `two_rooms`, by the command line and without their
page, on one CPU thread; then the page is made. CPU seconds of this process.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from innerworld.cli import main as innerworld
from innerworld.recipes.training_page import show_training

TRAININGS = {  # family: side of the pictures, flags
    "jepa": (64, ["--batch", "32", "train.steps=600"]),
    "vjepa2": (32, ["--length", "16", "--batch", "16", "train.steps=300"]),
}
SAME = ["train.threads=1", "train.lr=1e-3", "train.check_every=50", "train.device=cpu", "--no-page", "--quiet"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=list(TRAININGS), action="append")
    for family in parser.parse_args().family or TRAININGS:
        with tempfile.TemporaryDirectory() as folder:
            training, page = measure(family, Path(folder))
        print(f"{family}: training {training:.1f} s, page {page:.1f} s, {page / training:.1%}")


def measure(family: str, folder: Path) -> tuple[float, float]:
    """CPU seconds of the training and of its page."""
    size, flags = TRAININGS[family]
    data, run = str(folder / "data"), folder / "run"
    innerworld(["collect", "two_rooms", "--out", data, "--episodes", "200", "--size", str(size), "--quiet"])
    began = time.process_time()
    innerworld(["train", family, "--data", data, "--out", str(run), *flags, *SAME])
    taught = time.process_time()
    show_training(run, quiet=True)
    return taught - began, time.process_time() - taught


if __name__ == "__main__":
    main()
