"""How much memory is free, so that what would not fit is refused before anything is lost."""

from __future__ import annotations

from pathlib import Path

import torch

from innerworld.errors import UserError

LIMITS = (  # of a container: how much it may use, how much it does, and what for
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
    ),
)
FILES = ("inactive_file", "active_file")  # copies of what is on the disk, which make room for who asks


def room_for(needed: int, device: torch.device, what: str, remedy: str) -> None:
    """Raise `UserError` where `needed` bytes are more than is free on `device`; say nothing where that is unknown."""
    free = free_bytes(device)
    if free is not None and needed > free:
        raise UserError(f"{what} needs {needed / 2**30:.1f} GiB, {free / 2**30:.1f} are free on {device}: {remedy}")


def free_bytes(device: torch.device) -> int | None:
    """What may still be allocated; none where nobody tells."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    if device.type != "cpu":
        return None
    known = [
        free for free in (_of_the_machine(), *map(_of_a_container, *zip(*LIMITS, strict=True))) if free is not None
    ]
    return min(known, default=None)


def _of_the_machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)


def _of_a_container(limit: str, used: str, uses: str) -> int | None:
    try:
        most, now = (int(Path(path).read_text(encoding="ascii")) for path in (limit, used))
        lines = map(str.split, Path(uses).read_text(encoding="ascii").splitlines())
        return max(0, most - now + sum(int(size) for name, size in lines if name in FILES))
    except (OSError, ValueError):  # none, or "max"
        return None
