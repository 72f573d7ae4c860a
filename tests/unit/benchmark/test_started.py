"""All suites of a benchmark measure what its owner asked for when the first suite started."""

import json
from typing import Any

import pytest

from kimi_linear_operator.benchmark import started
from kimi_linear_operator.benchmark.labels import FIELDS_ANNOTATION
from kimi_linear_operator.benchmark.spec import KimiLinearBenchmark
from kimi_linear_operator.kubernetes.kinds import CONFIG_MAP, Kind, Manifest
from kimi_linear_operator.reconcile.cached_object import Key
from make import make_benchmark, owned
from processor_time import cost
from unit.benchmark.test_refused import World
from unit.benchmark.test_turns_given_back import FIRST

_RUNNER = Key("default", "first-runner", CONFIG_MAP)
_SPEED = {"numPrompts": 10}
_TWO = [{"name": "speed-low"}, {"name": "second", "speed": _SPEED}]
_WITH_DEFAULT = [{"name": "speed-low"}, {"name": "second", "speed": {**_SPEED, "warmupRequests": 50}}]


def _second_job(world: World, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """Let the first suite end, and return the Job of the second one as the operator applies it."""
    apply, applied = world.cluster.apply, list[Manifest]()

    async def noting(kind: Kind, manifest: Manifest) -> Manifest:
        applied.append(manifest)
        return await apply(kind, manifest)

    monkeypatch.setattr(world.cluster, "apply", noting)
    world.end()
    world.pass_over(FIRST, "09:06:00")
    [job] = [item for item in applied if item["kind"] == "Job"]
    return job


def test_a_default_that_appears_between_two_suites_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.begin(suites=_TWO)
    world.change(suites=_WITH_DEFAULT, podTemplate={"spec": {"priorityClassName": "of-another-version"}})
    job = _second_job(world, monkeypatch)
    assert "--num-prompts" in str(job)
    assert "--warmup-requests', '50'" not in str(job)
    assert "of-another-version" not in str(job)


def test_an_edited_annotation_lets_no_suite_measure_something_that_a_rule_refuses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    world.begin(suites=_TWO)
    runner = world.cache.get(_RUNNER)
    assert runner
    edited = {**runner["metadata"], "annotations": {**runner["metadata"]["annotations"], FIELDS_ANNOTATION: "[]"}}
    world.cluster.put(CONFIG_MAP, {**runner, "metadata": edited})
    assert "--num-prompts" in str(_second_job(world, monkeypatch))


def _benchmark(**spec: Any) -> KimiLinearBenchmark:
    manifest = make_benchmark(**spec)
    return KimiLinearBenchmark.model_validate({**manifest, "status": {"startTime": "2026-11-24T09:00:00Z"}})


def _runner(benchmark: KimiLinearBenchmark) -> Manifest:
    runner: Manifest = owned({"metadata": {"name": "nightly-runner"}}, "nightly", "KimiLinearBenchmark")
    started.note_fields(runner, benchmark)
    return runner


def test_fields_that_appear_after_the_start_are_left_out() -> None:
    before = _benchmark(suites=_TWO, podTemplate={"spec": {"containers": [{"name": "client"}]}})
    pod = {"spec": {"priorityClassName": "x", "containers": [{"name": "client", "imagePullPolicy": "Always"}]}}
    after = _benchmark(suites=_WITH_DEFAULT, maxErrorRate=0.5, podTemplate=pod, thresholds=[])
    assert started.as_started(after, _runner(before)).spec == before.spec


def test_a_new_default_that_is_a_list_is_left_out_as_a_whole() -> None:
    before = _benchmark(suites=_TWO)
    rule = {"suite": "second", "metric": "request_throughput", "min": 1.0}
    assert started.as_started(_benchmark(suites=_TWO, thresholds=[rule]), _runner(before)).spec == before.spec
    pod = {"spec": {"tolerations": [{"key": "gpu", "operator": "Exists"}]}}
    assert started.as_started(_benchmark(suites=_TWO, podTemplate=pod), _runner(before)).spec == before.spec


def test_fields_that_may_change_are_kept() -> None:
    before, after = _benchmark(suites=_TWO), _benchmark(suites=_TWO, suspend=True, ttlSecondsAfterFinished=60)
    assert started.as_started(after, _runner(before)) == after


def test_before_the_first_suite_the_spec_counts_as_it_is() -> None:
    before, after = _benchmark(suites=_TWO), _benchmark(suites=_WITH_DEFAULT).model_copy(update={"status": {}})
    assert started.as_started(after, _runner(before)) == after


@pytest.mark.parametrize("text", ["", "x", "{}", "1", "[1]", '[["suites", {}]]', "[]", json.dumps([["suites", 0]])])
def test_an_edited_annotation_fails_no_pass(text: str) -> None:
    benchmark = _benchmark(suites=_TWO)
    runner = _runner(benchmark)
    runner["metadata"]["annotations"] = {FIELDS_ANNOTATION: text}
    assert started.as_started(benchmark, runner).spec.suites


def test_a_benchmark_that_an_older_version_started_goes_on_as_before() -> None:
    after = _benchmark(suites=_WITH_DEFAULT)
    assert started.as_started(after, None) == after
    assert started.as_started(after, owned({"metadata": {"name": "x"}}, "nightly", "KimiLinearBenchmark")) == after


def test_the_runner_names_the_fields() -> None:
    world = World()
    world.begin(suites=_TWO)
    runner = world.cache.get(_RUNNER)
    assert runner
    assert ["suites", 1, "speed", "numPrompts"] in json.loads(runner["metadata"]["annotations"][FIELDS_ANNOTATION])


# Each text costs less than 0.5.
MOST_COST = 5
WIDE = _benchmark(podTemplate={"spec": {"x": {f"k{number}": 1 for number in range(2380)}}})
DEEP_LIST = _benchmark(podTemplate={"spec": {"x": [{"k": {"k": number}} for number in range(1200)]}})


@pytest.mark.parametrize("benchmark", [WIDE, DEEP_LIST], ids=["wide", "list"])
@pytest.mark.parametrize(
    "text",
    ['[["serverRef","name"]]', f"[{'[],' * 10_000}[]]", f"[[{'[],' * 10_000}[]]]", f"[[{'0,' * 16_000}-1]]"],
    ids=["one field", "empty paths", "lists", "a long path"],
)
def test_any_text_takes_little_time(benchmark: KimiLinearBenchmark, text: str) -> None:
    runner = _runner(benchmark)
    runner["metadata"]["annotations"] = {FIELDS_ANNOTATION: text}
    assert cost(lambda: started.as_started(benchmark, runner), tries=3) < MOST_COST


def test_a_default_in_all_items_of_a_list_counts_once() -> None:
    def with_containers(**more: int) -> KimiLinearBenchmark:
        return _benchmark(
            podTemplate={"spec": {"containers": [{"name": f"c{number}", **more} for number in range(16)]}}
        )

    before, after = with_containers(), with_containers(**{f"newer{number}": 1 for number in range(8)})
    assert started.as_started(after, _runner(before)).spec == before.spec
