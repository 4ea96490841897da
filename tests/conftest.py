"""What all tests need: Ctrl-C must be heard, and no test may fail because the machine is slow."""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

# A shell starts jobs in the background with Ctrl-C ignored, and children inherit that. Some tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
