"""Whole runs as Python functions: what is collected, taught, judged and shown."""
