"""A memory goes into a state and comes out of it as it was."""

from __future__ import annotations

import torch

from innerworld.models.remembered import as_state, memory_of, without_memory


def test_a_memory_comes_back() -> None:
    memory = {"keys": torch.ones(2, 3), "age": torch.zeros(2)}
    state = {"z": torch.zeros(2, 4)} | as_state(memory)
    assert set(state) == {"z", "memory.keys", "memory.age"}
    assert memory_of(state) == memory and set(without_memory(state)) == {"z"}
