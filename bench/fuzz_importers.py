"""Damage logs of every kind in seeded ways and import them: each must come over true, or be refused with one sentence.

    python bench/fuzz_importers.py --count 10000
    python bench/fuzz_importers.py --kind minari --seed 4711 --count 1      one mutant again

Each mutant is imported in a child process with a limit on its memory and a clock outside of it. What may happen:

  equal     all episodes came over as they are
  fewer     those that came over are as they are, the others were named and skipped, or their files are gone
  refused   a UserError of one line
  changed   numbers differ where the format has no checksum that would tell (HDF5, Zarr, CSV, H.264, JSON)
  BAD       a crash, a hang, another exception, nothing said, or a difference that a checksum should have told
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
from sample_logs import LOGS, Log, episodes

from innerworld.config import build
from innerworld.data import Store, import_log
from innerworld.data.importers import IMPORTERS
from innerworld.errors import UserError

SECONDS = 20.0
"""For one mutant; the untouched log takes a small part of one."""

GIGABYTES = 2.0
"""That a child may have beyond what it has when it starts."""

CHANGES = ("flip", "flip many", "cut", "splice", "zeros", "noise", "insert", "swap", "remove", "number", "grow")


@dataclass(frozen=True)
class Outcome:
    kind: str
    seed: int
    change: str
    verdict: str
    told: str


def fuzz(kinds: Sequence[str], seeds: Sequence[int], seconds: float = SECONDS) -> Iterator[Outcome]:
    """Every kind with every seed, in turn."""
    for kind in kinds:
        with tempfile.TemporaryDirectory() as folder:
            yield from _fuzz_kind(kind, seeds, Path(folder), seconds)


def _fuzz_kind(kind: str, seeds: Sequence[int], folder: Path, seconds: float) -> Iterator[Outcome]:
    """In a child until that dies or hangs; then the rest in another."""
    left = list(seeds)
    while left:
        ours, theirs = multiprocessing.get_context("fork").Pipe()
        child = multiprocessing.get_context("fork").Process(target=_child, args=(kind, left, folder, theirs))
        child.start()
        theirs.close()
        while left:
            try:
                heard = ours.recv() if ours.poll(seconds) else None
                why = "it hangs"
            except EOFError:
                child.join()
                heard, why = None, f"it crashed: exit code {child.exitcode}"
            seed = left.pop(0)
            if heard is None:
                yield Outcome(kind, seed, "?", "BAD", why)
                break
            yield Outcome(kind, seed, *heard)
        child.kill()
        child.join()


# ---------------------------------------------------------------------- in the child


def _child(kind: str, seeds: Sequence[int], folder: Path, pipe: Connection) -> None:
    limit = int(_pages() * os.sysconf("SC_PAGE_SIZE") + GIGABYTES * 1e9)
    log, whole, known = LOGS[kind], folder / "whole", episodes()
    shutil.rmtree(folder, ignore_errors=True)
    whole.mkdir(parents=True)
    path = log.write(whole, known).relative_to(whole)
    truth, _ = _bring(log, whole / path, folder / "truth")
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)  # decoders grumble
    for seed in seeds:
        mutant = folder / "mutant"
        shutil.rmtree(mutant, ignore_errors=True)
        shutil.rmtree(folder / "out", ignore_errors=True)
        shutil.copytree(whole, mutant)
        change, free = mutate(mutant, log, np.random.default_rng([seed, *kind.encode()]))
        pipe.send((change, *_judge(log, mutant / path, folder / "out", truth, free)))


def _pages() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0])


def _judge(log: Log, path: Path, out: Path, truth: Sequence[str], free: bool) -> tuple[str, str]:
    """What became of a mutant. `free`: what was changed is protected by nothing."""
    try:
        found, skipped = _bring(log, path, out)
    except UserError as error:
        return ("refused" if "\n" not in str(error) else "BAD"), str(error)
    except BaseException as error:
        return "BAD", f"{type(error).__name__}: {error} {traceback.format_exc(limit=-3)}"
    if list(found) == list(truth) and not skipped:
        return "equal", ""
    if all(each in truth for each in found):
        lost = len(truth) - len(found)
        return "fewer" if skipped or free or lost <= 0 or not log.checked else "BAD", f"{skipped} of {len(truth)}"
    return "changed" if free else "BAD", f"{len(found)} episodes, {skipped}"


def _bring(log: Log, path: Path, out: Path) -> tuple[list[str], list[str]]:
    """A fingerprint of each episode, and what was skipped."""
    config = build(IMPORTERS[log.kind].config, {**log.config, "episode_gb": 0.5})
    store, skipped = import_log(log.kind, path, out, config, "skip")
    return [_fingerprint(store, i) for i in range(len(store))], skipped


def _fingerprint(store: Store, i: int) -> str:
    clip = store.episode(i)
    parts = {**{f"obs.{name}": value for name, value in clip.obs.items()}, "action": clip.action}
    parts |= {"reward": clip.reward, "terminated": clip.terminated}
    digest = sha256()
    for name in sorted(parts):
        digest.update(name.encode() + str(tuple(parts[name].shape)).encode() + parts[name].numpy().tobytes())
    return digest.hexdigest()


# ---------------------------------------------------------------------- damage


def mutate(folder: Path, log: Log, rng: np.random.Generator) -> tuple[str, bool]:
    """Damage one file: how, and whether nothing in the format can tell."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    # Large files have most of the bytes, small ones most of the meaning: half of the blows go to either.
    sizes = np.array([file.stat().st_size + 1 for file in files], float)
    weights = sizes / sizes.sum() if rng.random() < 0.5 else np.full(len(files), 1 / len(files))
    file = files[rng.choice(len(files), p=weights)]
    change = str(rng.choice(CHANGES))
    free = not log.checked or log.checked not in file.name
    if change == "swap" and len(files) > 1:
        other = files[rng.integers(len(files))]
        a, b = file.read_bytes(), other.read_bytes()
        file.write_bytes(b)
        other.write_bytes(a)
        return f"swap {file.name} {other.name}", True
    if change == "remove":
        file.unlink()
        return f"remove {file.name}", True
    file.write_bytes(_damaged(bytearray(file.read_bytes()), change, rng))
    return f"{change} {file.name}", free


def _damaged(raw: bytearray, change: str, rng: np.random.Generator) -> bytes:
    n = len(raw)
    if not n:
        return bytes(rng.integers(0, 256, 50, np.uint8))
    # Headers and indices lie at the ends.
    ends = rng.random() < 0.4
    at = int(rng.integers(n)) if not ends else int(min(n - 1, rng.integers(200)) if rng.random() < 0.5 else
                                                   max(0, n - 1 - rng.integers(200)))  # fmt: skip
    size = int(min(n - at, 2 ** rng.integers(1, 10)))
    match change:
        case "flip":
            raw[at] ^= 1 << int(rng.integers(8))
        case "flip many":
            for place in rng.integers(0, n, int(rng.integers(2, 30))):
                raw[place] ^= 1 << int(rng.integers(8))
        case "cut":
            del raw[at:]
        case "splice":
            start = int(rng.integers(n))
            raw[at : at + size] = raw[start : start + size]
        case "zeros":
            raw[at : at + size] = bytes(size)
        case "noise":
            raw[at : at + size] = rng.integers(0, 256, size, np.uint8).tobytes()
        case "insert":
            raw[at:at] = rng.integers(0, 256, size, np.uint8).tobytes()
        case "number":
            _new_number(raw, at, rng)
        case _:
            raw += raw[:size]
    return bytes(raw)


def _new_number(raw: bytearray, at: int, rng: np.random.Generator) -> None:
    """A number that is written out gets another, as large ones are in files that lie; elsewhere 8 bytes become one."""
    value = int(rng.choice([0, 1, -1, 255, 65536, 2**31 - 1, 2**32, 2**62, -(2**31), int(rng.integers(1000))]))
    digits = [i for i in range(len(raw)) if 48 <= raw[i] <= 57] if len(raw) < 100_000 and b"{" in raw[:4] else []
    if digits:
        start = end = int(digits[rng.integers(len(digits))])
        while end < len(raw) and 48 <= raw[end] <= 57:
            end += 1
        raw[start:end] = str(value).encode()
        return
    width = int(rng.choice([1, 2, 4, 8]))
    raw[at : at + width] = (value % 2 ** (8 * width)).to_bytes(width, "little")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--count", type=int, default=10_000, help="mutants of all kinds together")
    options.add_argument("--seed", type=int, default=0, help="of the first")
    options.add_argument("--kind", choices=list(LOGS), action="append", help="only this; may be repeated")
    options.add_argument("--out", type=Path, help="write every outcome there, as JSON lines")
    given = options.parse_args()
    kinds = given.kind or list(LOGS)
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in kinds}
    began, lines = time.perf_counter(), given.out.open("w") if given.out else None
    for outcome in fuzz(kinds, range(given.seed, given.seed + -(-given.count // len(kinds)))):
        counts[outcome.kind][outcome.verdict] += 1
        if lines is not None:
            lines.write(json.dumps(vars(outcome)) + "\n")
        if outcome.verdict == "BAD":
            print(f"BAD {outcome.kind} seed {outcome.seed} ({outcome.change}): {outcome.told[:600]}", flush=True)
    verdicts = ("equal", "fewer", "refused", "changed", "BAD")
    print("kind       " + "".join(f"{name:>9}" for name in verdicts))
    for kind, found in counts.items():
        print(f"{kind:<11}" + "".join(f"{found[name]:>9}" for name in verdicts))
    total = sum(sum(found.values()) for found in counts.values())
    print(f"{total} mutants in {time.perf_counter() - began:.0f} s")
    sys.exit(any(found["BAD"] for found in counts.values()))


if __name__ == "__main__":
    main()
