"""Experience: collect it in environments, import it, keep it in a `Store`, and draw `Clips` from it to learn from."""

from innerworld.data.collect import collect, play
from innerworld.data.explore import POLICIES, Policy, Remembers, Smooth, Uniform
from innerworld.data.importers import import_npz, import_pusht
from innerworld.data.sample import Clips, spec_of_skip, split
from innerworld.data.store import About, Meta, Store
from innerworld.data.writer import Writer

__all__ = [
    "POLICIES",
    "About",
    "Clips",
    "Meta",
    "Policy",
    "Remembers",
    "Smooth",
    "Store",
    "Uniform",
    "Writer",
    "collect",
    "import_npz",
    "import_pusht",
    "play",
    "spec_of_skip",
    "split",
]
