"""Perception: sensors → a belief."""
