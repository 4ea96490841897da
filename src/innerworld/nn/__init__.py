"""Layers without opinion, used by two or more families."""
