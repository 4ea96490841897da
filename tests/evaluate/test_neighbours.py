"""Nearest neighbours: the most similar moments, no two of one episode, and how far their states are."""

from __future__ import annotations

import math

import pytest
import torch

from innerworld.errors import UserError
from innerworld.evaluate.neighbours import nearest_neighbours, state_distance


def test_they_agree_with_a_plain_loop() -> None:
    rng = torch.Generator().manual_seed(0)
    gallery, queries = torch.randn(60, 5, generator=rng), torch.randn(7, 5, generator=rng)
    episode = torch.randint(0, 9, (60,), generator=rng)
    near = nearest_neighbours(queries, gallery, episode, k=4)
    mean = gallery.double().mean(0)
    for q in range(7):
        cosine = torch.cosine_similarity(queries[q].double() - mean, gallery.double() - mean, dim=-1)
        rows: list[int] = []
        for row in cosine.argsort(descending=True).tolist():
            if episode[row] not in episode[rows]:
                rows.append(row)
        assert near.rows[q].tolist() == rows[:4]
        torch.testing.assert_close(near.cosine[q], cosine[rows[:4]])


def test_what_all_have_in_common_does_not_count() -> None:
    gallery = torch.tensor([[100.0, 1.0], [100.0, -1.0]])
    near = nearest_neighbours(torch.tensor([[100.0, 0.5]]), gallery, torch.arange(2), k=2)
    assert near.rows.tolist() == [[0, 1]]
    torch.testing.assert_close(near.cosine, torch.tensor([[1.0, -1.0]], dtype=torch.float64))


def test_fewer_episodes_give_fewer_neighbours() -> None:
    near = nearest_neighbours(torch.randn(3, 4), torch.randn(10, 4), torch.arange(10) // 5, k=5)
    assert near.rows.shape == near.cosine.shape == (3, 2)


def test_distance_of_states_is_nought_for_the_same_and_one_by_chance() -> None:
    rng = torch.Generator().manual_seed(0)
    gallery = torch.randn(2000, 2, generator=rng) * torch.tensor([1.0, 1000.0])
    gallery = torch.cat([gallery, torch.full((2000, 1), 7.0)], dim=1)  # a dimension that never varies
    assert state_distance(gallery[:500], gallery, torch.arange(500)) == 0
    assert state_distance(gallery[:500], gallery, torch.randperm(2000, generator=rng)[:500]) == pytest.approx(
        1, abs=0.1
    )
    one_off = gallery.clone()
    one_off[:, 0] += 1  # as much as the dimension that is a thousand times larger
    other_off = gallery.clone()
    other_off[:, 1] += 1000
    rows = torch.arange(500)
    one, other = (state_distance(gallery[:500], off, rows) for off in (one_off, other_off))
    assert one == pytest.approx(other, rel=0.1) and one > 0.3
    assert math.isnan(state_distance(torch.ones(3, 1), torch.ones(5, 1), torch.zeros(3, dtype=torch.long)))


@pytest.mark.parametrize(
    ("queries", "gallery", "episode", "words"),
    [
        (torch.zeros(3, 4), torch.zeros(5, 3), torch.zeros(5), "have shapes"),
        (torch.zeros(3, 4), torch.zeros(0, 4), torch.zeros(0), "have shapes"),
        (torch.zeros(3, 4), torch.zeros(5, 4), torch.zeros(4), "as many episodes"),
        (torch.full((3, 4), torch.inf), torch.zeros(5, 4), torch.zeros(5), "not finite"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    queries: torch.Tensor, gallery: torch.Tensor, episode: torch.Tensor, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        nearest_neighbours(queries, gallery, episode)
