"""What is written is read back: any configuration through JSON and through key=value, any experience through files."""

from __future__ import annotations

import json
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import pytest
import torch
from annotated_types import Ge, Gt, Le, Lt, MinLen, MultipleOf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from innerworld.agent import AgentConfig
from innerworld.config import Config, build, override
from innerworld.data import About, Store, import_log
from innerworld.data.exporters import EXPORTERS, export_store
from innerworld.data.importers import IMPORTERS
from innerworld.data.importers.npz import NpzConfig
from innerworld.errors import UserError
from innerworld.models import MODELS
from innerworld.plan import PLANNERS
from innerworld.recipes.lesson import Lesson
from innerworld.recipes.parts import Collection
from innerworld.training import TrainConfig
from innerworld.types import Clip, Spec

CONFIGS: dict[str, type[Config]] = {
    **{f"model {name}": kind.Config for name, kind in MODELS.items()},
    **{f"planner {name}": kind for name, kind in PLANNERS.items() if issubclass(kind, Config)},
    **{f"importer {name}": importer.config for name, importer in IMPORTERS.items()},
    **{f"exporter {name}": exporter.config for name, exporter in EXPORTERS.items()},
    "train": TrainConfig,
    "agent": AgentConfig,
    "collection": Collection,
    "lesson": Lesson,
    "about": About,
}
TEXT = some.text(some.characters(exclude_categories=["Cs"]), max_size=6)


def values_of(kind: Any, field: FieldInfo | None = None) -> some.SearchStrategy[Any]:
    """Values of a field's type within its bounds; relations between fields are not known here."""
    bounds = {type(each): each for each in (field.metadata if field is not None else [])}
    origin, inside = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return some.one_of([values_of(each, field) for each in inside])
    if origin is Literal:
        return some.sampled_from(inside)
    if origin is tuple and inside[-1] is Ellipsis:
        least = bounds[MinLen].min_length if MinLen in bounds else 0
        return some.lists(values_of(inside[0]), min_size=least, max_size=3).map(tuple)
    if origin is tuple:
        return some.tuples(*map(values_of, inside))
    if origin is dict or kind is dict:
        return some.dictionaries(TEXT, some.integers() | TEXT, max_size=2)
    if kind in (int, float):
        low = bounds[Ge].ge if Ge in bounds else bounds[Gt].gt if Gt in bounds else -1000
        high = bounds[Le].le if Le in bounds else bounds[Lt].lt if Lt in bounds else 10**6
        if kind is float:
            return some.floats(low, high, exclude_min=Gt in bounds, exclude_max=Lt in bounds)
        step = bounds[MultipleOf].multiple_of if MultipleOf in bounds else 1
        return some.integers(int(low) + (Gt in bounds), int(high) - (Lt in bounds)).map(lambda n: n // step * step)
    if isinstance(kind, type) and issubclass(kind, Config):
        return configs_of(kind)
    return {bool: some.booleans(), str: TEXT, type(None): some.none()}.get(kind, some.nothing())


def configs_of(kind: type[Config]) -> some.SearchStrategy[Config]:
    """The default with some fields drawn anew, as many as its own checks allow."""

    def made(drawn: dict[str, Any]) -> Config:
        config = kind()
        for name, value in drawn.items():
            try:
                config = kind.model_validate({**config.model_dump(), name: value})
            except (ValidationError, UserError):
                continue  # it does not go with the others
        return config

    fields = {name: values_of(field.annotation, field) for name, field in kind.model_fields.items()}
    return some.fixed_dictionaries({}, optional={n: each for n, each in fields.items() if not each.is_empty}).map(made)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_configuration_is_the_same_after_json_and_after_the_command_line(name: str) -> None:
    kind = CONFIGS[name]
    drawn: set[str] = set()

    @settings(max_examples=25, deadline=None, database=None, derandomize=True)
    @given(config=configs_of(kind))
    def there_and_back(config: Config) -> None:
        drawn.add(config.model_dump_json())
        again = build(kind, json.loads(config.model_dump_json()))
        assert again == config and again.model_dump_json() == config.model_dump_json()
        words = [f"{key}={json.dumps(value)}" for key, value in config.model_dump(mode="json").items()]
        assert override(kind(), words) == config

    there_and_back()
    assert len(drawn) > 5 or not kind.model_fields


SPECS = some.builds(
    Spec,
    some.dictionaries(
        some.sampled_from(["state", "arm", "é 日"]), some.tuples(some.integers(1, 4)), min_size=1, max_size=2
    ),
    some.integers(1, 3),
    some.booleans(),
).filter(lambda spec: not spec.discrete or spec.action > 1)


def episode(spec: Spec, t: int, rng: torch.Generator) -> Clip:
    obs = {name: torch.randn(1, t + 1, *shape, generator=rng) for name, shape in spec.obs.items()}
    action = torch.rand(1, t, spec.action, generator=rng) * 2 - 1
    if spec.discrete:
        action = torch.nn.functional.one_hot(action.argmax(-1), spec.action).float()
    return Clip(obs, action, torch.randn(1, t, generator=rng), torch.rand(1, t, generator=rng) > 0.5)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(spec=SPECS, lengths=some.lists(some.integers(1, 6), min_size=1, max_size=4), seed=some.integers(0, 99))
def test_experience_that_is_exported_and_imported_is_the_same(
    spec: Spec, lengths: list[int], seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path, rng = tmp_path_factory.mktemp("any"), torch.Generator().manual_seed(seed)
    store = Store.create(path / "store", spec, About(env="any", more={"seed": seed}))
    store.add_all([episode(spec, t, rng) for t in lengths], list(range(len(lengths))))
    export_store("npz", store, path / "npz")
    config = NpzConfig(choices=spec.action if spec.discrete else None)
    again, skipped = import_log("npz", path / "npz", path / "again", config)
    assert not skipped
    assert_same(again, store)
    assert_same(Store.open(path / "store"), store)


def assert_same(one: Store, other: Store) -> None:
    assert one.spec == other.spec and one.lengths.tolist() == other.lengths.tolist()
    for i in range(len(other)):
        a, b = one.episode(i), other.episode(i)
        assert a.action.equal(b.action) and a.reward.equal(b.reward) and a.terminated.equal(b.terminated)
        assert a.obs.keys() == b.obs.keys() and all(a.obs[name].equal(b.obs[name]) for name in b.obs)


@given(
    about=some.builds(
        About,
        env=some.text(),
        policy=some.text(),
        seed=some.none() | some.integers(0, 2**40),
        fps=some.none() | some.floats(0, 1e9),
        more=some.dictionaries(some.text(), some.recursive(some.integers() | TEXT, some.lists, max_leaves=4)),
    )
)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_provenance_comes_back(about: About, tmp_path_factory: pytest.TempPathFactory) -> None:
    path: Path = tmp_path_factory.mktemp("any") / "s"
    Store.create(path, Spec({"state": (1,)}, 1), about)
    assert Store.open(path).meta.about == about
