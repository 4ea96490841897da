"""Which version of the library this is."""

from __future__ import annotations

from importlib import metadata

try:
    VERSION = metadata.version("innerworld")
except metadata.PackageNotFoundError:
    VERSION = "unknown"  # run from a source folder that is not installed
