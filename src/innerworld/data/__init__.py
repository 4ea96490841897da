"""Experience: collect it in environments, import it, keep it in a `Store`, and draw `Clips` from it to learn from."""

from innerworld.data.clips.clips import Clips, split
from innerworld.data.clips.cut import spec_of_skip
from innerworld.data.clips.goals import Goals
from innerworld.data.clips.mixture import Mixture
from innerworld.data.clips.prefetch import Prefetched
from innerworld.data.clips.replay import Prioritised, Recent
from innerworld.data.clips.staged import Shrunk, Staged
from innerworld.data.collect import collect, play
from innerworld.data.explore import POLICIES, Policy, Remembers, Smooth, Uniform
from innerworld.data.importers import IMPORTERS, ImportConfig, import_log
from innerworld.data.store.remote import Bucket
from innerworld.data.store.store import About, Meta, Store
from innerworld.data.store.writer import Writer

__all__ = [
    "IMPORTERS",
    "POLICIES",
    "About",
    "Bucket",
    "Clips",
    "Goals",
    "ImportConfig",
    "Meta",
    "Mixture",
    "Policy",
    "Prefetched",
    "Prioritised",
    "Recent",
    "Remembers",
    "Shrunk",
    "Smooth",
    "Staged",
    "Store",
    "Uniform",
    "Writer",
    "collect",
    "import_log",
    "play",
    "spec_of_skip",
    "split",
]
