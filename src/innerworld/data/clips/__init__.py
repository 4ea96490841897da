"""Clips: stretches of experience to learn from, drawn reproducibly; `clips.py` is where to begin."""
