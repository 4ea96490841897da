"""A checkpoint is a folder of safetensors and JSON with checksums: it appears whole or not at all, and runs no code.

<run>/checkpoints/step-00001000/
    config.json             what to build: format, family, its configuration and spec, the training's, the step
    weights.safetensors     parameters and buffers
    average.safetensors     the moving average of the parameters, where one is kept
    optimiser.safetensors   the optimiser's memory and the random states: what an exact resume needs
    manifest.json           size and sha256 of the others, written last

Of a run whose weights are spread over processes, each process writes its own rows as `weights-00000-of-00002…`; the
header of a file says which rows of which tensor they are, so that any number of processes can read them.
"""

from innerworld.checkpoint.folder import BrokenCheckpoint, exists, is_checkpoint
from innerworld.checkpoint.header import FORMAT, Families, Header, SpecHeader
from innerworld.checkpoint.load import init_from, load, read_header, restore, resume
from innerworld.checkpoint.save import Background, Best, SaveFailed, save, take, write
from innerworld.checkpoint.state import Extra

__all__ = [
    "FORMAT",
    "Background",
    "Best",
    "BrokenCheckpoint",
    "Extra",
    "Families",
    "Header",
    "SaveFailed",
    "SpecHeader",
    "exists",
    "init_from",
    "is_checkpoint",
    "load",
    "read_header",
    "restore",
    "resume",
    "save",
    "take",
    "write",
]
