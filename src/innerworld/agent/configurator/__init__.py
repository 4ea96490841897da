"""The configurator: what is wanted, and how hard to try."""
