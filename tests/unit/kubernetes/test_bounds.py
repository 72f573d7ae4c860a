"""A resource that is too deep or too large is refused before any other check."""

from functools import partial
from typing import Any

import pytest

from kimi_linear_operator.kubernetes.bounds import DEEPEST_LEVEL, LARGEST_SPEC, MOST_VALUES, within_bounds
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.resource_types import check
from make import make_benchmark, make_server
from processor_time import cost

MAKE = {"server": make_server, "benchmark": make_benchmark}
every_kind = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)


def nested(levels: int) -> Any:
    value: Any = 1
    for number in range(levels):
        value = [value] if number % 2 else {"a": value}
    return value


def overlay(value: Any) -> Manifest:
    return {"podTemplate": {"spec": {"x": value}}}


# The resource, its spec, podTemplate and podTemplate.spec are four levels.
DEEPEST = overlay(nested(DEEPEST_LEVEL - 4))
TOO_DEEP = overlay(nested(DEEPEST_LEVEL - 3))
TOO_LARGE = {
    "values": overlay([0] * MOST_VALUES),
    "keys": overlay({str(number): 0 for number in range(MOST_VALUES // 2)}),
    "empty lists": overlay([[]] * MOST_VALUES),
    "pairs": overlay([[[]]] * 300_000),
    "one text": overlay("x" * (LARGEST_SPEC + 1)),
    "many texts": overlay(["x" * 100] * (LARGEST_SPEC // 100 + 1)),
    "escapes": overlay("\0" * (LARGEST_SPEC // 6 + 1)),
    "other letters": overlay("\u00e9" * (LARGEST_SPEC // 2 + 1)),
    "one key": overlay({"x" * (LARGEST_SPEC + 1): 1}),
    "many fields": {f"x{number}": [0] * (MOST_VALUES // 10) for number in range(20)},
}


@every_kind
def test_resources_within_the_bounds_are_accepted(make: Any) -> None:
    for spec in (DEEPEST, overlay([0] * (MOST_VALUES - 100)), overlay("x" * (LARGEST_SPEC - 100))):
        assert check(make(**spec)).problems == ()


@every_kind
@pytest.mark.parametrize("spec", [TOO_DEEP, overlay(nested(9_999))], ids=["just", "by far"])
def test_a_field_that_is_nested_too_deeply_is_named(make: Any, spec: Manifest) -> None:
    checked = check(make(**spec))
    assert checked.resource is None
    assert checked.message == "spec.podTemplate: nested deeper than 64 levels: remove the nested values"


@every_kind
@pytest.mark.parametrize("spec", TOO_LARGE.values(), ids=TOO_LARGE)
def test_a_field_that_is_too_large_is_named(make: Any, spec: Manifest) -> None:
    [problem] = check(make(**spec)).problems
    assert problem.path == ("spec.podTemplate" if "podTemplate" in spec else "spec.x0")
    assert problem.message.startswith("too large: a spec can contain at most 256 KiB of JSON and 5000 keys and values")


def test_status_and_managed_fields_do_not_count_towards_the_bounds() -> None:
    metadata = {"name": "kimi", "managedFields": nested(9_999)}
    assert check(make_server() | {"status": nested(9_999), "metadata": metadata}).problems == ()


@pytest.mark.parametrize("spec", [*TOO_LARGE.values(), TOO_DEEP], ids=[*TOO_LARGE, "too deep"])
def test_a_check_ends_when_a_bound_is_exceeded(spec: Manifest) -> None:
    manifest = make_server(**spec)
    assert cost(lambda: check(manifest), tries=3) < 5


@every_kind
@pytest.mark.parametrize("spec", [*TOO_LARGE.values(), TOO_DEEP], ids=[*TOO_LARGE, "too deep"])
def test_a_refused_resource_is_cached_small_and_stays_refused_for_the_same_reason(make: Any, spec: Manifest) -> None:
    manifest = make(**spec)
    kept = within_bounds(manifest)
    assert check(kept).problems == check(manifest).problems
    assert len(str(kept)) < 100_000
    assert {**kept, "spec": None} == {**manifest, "spec": None}


def test_other_resources_are_kept_as_they_are() -> None:
    manifest = make_server(**DEEPEST)
    assert within_bounds(manifest) is manifest


def test_the_largest_allowed_spec_is_checked_in_a_moment() -> None:
    variables = [{"name": f"E{number}"} for number in range(128)]
    containers = [{"name": f"c{number}", "image": "x", "env": variables, "args": ["x"] * 20} for number in range(8)]
    suites = [
        {"name": f"s{number}", "speed": {"numPrompts": 1, "extraArgs": ["--x=" + "a" * 250] * 16}}
        for number in range(16)
    ]
    thresholds = [{"suite": f"s{number % 16}", "metric": "median_ttft_ms", "min": 1} for number in range(64)]
    template = {"spec": {"containers": containers}}
    benchmark = make_benchmark(suites=suites, thresholds=thresholds, podTemplate=template)
    server = make_server(engine={"extraArgs": ["--x=" + "a" * 1000] * 64}, podTemplate=template)
    for manifest in (benchmark, server):
        assert check(manifest).errors == []
        assert cost(partial(check, manifest), tries=3) < 10
