"""What all tests need: Ctrl-C must be heard."""

from __future__ import annotations

import signal

# A shell starts jobs in the background with Ctrl-C ignored, and children inherit that. Some tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)
