"""A backbone's memory within a state, where its tensors are named `memory.*`."""

from __future__ import annotations

from innerworld.types import State

MEMORY = "memory."


def memory_of(state: State) -> State:
    """The memory alone, by its own names."""
    return {name.removeprefix(MEMORY): value for name, value in state.items() if name.startswith(MEMORY)}


def as_state(memory: State) -> State:
    """The memory as a state holds it."""
    return {MEMORY + name: value for name, value in memory.items()}


def without_memory(state: State) -> State:
    """What else a state holds."""
    return {name: value for name, value in state.items() if not name.startswith(MEMORY)}
