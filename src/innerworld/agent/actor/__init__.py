"""The actor: Mode-1 reacts, Mode-2 searches."""
