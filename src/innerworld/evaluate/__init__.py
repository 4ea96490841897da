"""Judging: one question per file, and each answer is a flat dict of floats."""
