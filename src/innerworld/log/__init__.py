"""What a run reports, and where it is shown: a progress line, a file of JSON lines, trackers."""

from __future__ import annotations

from innerworld.log.bar import Bar, progress
from innerworld.log.lines import JsonLines
from innerworld.log.log import Log, Row, silent, tee
from innerworld.log.tracker import TRACKERS, tracker

__all__ = ["TRACKERS", "Bar", "JsonLines", "Log", "Row", "progress", "silent", "tee", "tracker"]
