"""Hypothesis strategies for benchmarks.

They make whole benchmarks from good parts, and the same with an odd value in one place.
"""

from collections.abc import Mapping

from hypothesis import strategies as st

from integration.specs import POD_TEMPLATES, Json, Strategy, draw_manifest

_ODD_NUMBERS = st.sampled_from((-1, 0, 1.5, "1", True, 2**63, 1e30, 10.0))
_ODD_NAMES = st.sampled_from(("A", "a_b", "-a", "a" * 254, "", "a\n"))

_SPEED = st.fixed_dictionaries(
    {"numPrompts": st.sampled_from((1, 80, 1_000_000))},
    optional={
        "maxConcurrency": st.sampled_from((1, 100_000)),
        "requestRate": st.sampled_from((0.5, 1, 1_000_000)),
        "datasetName": st.sampled_from(("random", "random-ids", "sharegpt")),
        "randomInputLen": st.just(1_048_576),
        "randomRangeRatio": st.sampled_from((0, 0.5, 1)),
        "seed": st.sampled_from((0, 4_294_967_295)),
        "flushCache": st.booleans(),
        "extraArgs": st.lists(st.sampled_from(("--tag", "x", "--gsp-num-groups=2", "é" * 256)), max_size=3),
    },
)
_ODD_SPEED = st.fixed_dictionaries(
    {},
    optional={
        "numPrompts": _ODD_NUMBERS,
        "maxConcurrency": _ODD_NUMBERS,
        "requestRate": _ODD_NUMBERS,
        "randomRangeRatio": st.sampled_from((-0.1, 1.1, 2, "1", None)),
        "seed": _ODD_NUMBERS,
        "flushCache": st.sampled_from(("yes", 1, None)),
        "extraArgs": st.lists(st.sampled_from(("--num-prompts=1", "--host", "", "x" * 257, "--mod")), max_size=17),
        "numPrompt": st.just(1),
    },
)
_ACCURACY = st.fixed_dictionaries(
    {},
    optional={
        "numQuestions": st.sampled_from((1, 99, 100, 1319)),
        "numShots": st.sampled_from((0, 100)),
        "temperature": st.sampled_from((0, 0.5, 10)),
    },
)
_ODD_ACCURACY = st.fixed_dictionaries({}, optional={"numQuestions": _ODD_NUMBERS, "temperature": _ODD_NUMBERS})

_RECIPE_SUITES = st.sampled_from(("speed-low", "speed-medium", "speed-high", "gsm8k")).map(lambda name: {"name": name})
_OWN_SUITES = st.one_of(
    _SPEED.map(lambda load: {"name": "own", "speed": load}),
    _ACCURACY.map(lambda load: {"name": "asked", "accuracy": load}),
    st.sampled_from(({}, {"numRequests": 2}, {"numRequests": 1000})).map(
        lambda load: {"name": "tools", "toolCalls": load}
    ),
)
_ODD_SUITES: Strategy = st.one_of(
    _ODD_SPEED.map(lambda load: {"name": "own", "speed": load}),
    _ODD_ACCURACY.map(lambda load: {"name": "asked", "accuracy": load}),
    _SPEED.map(lambda load: {"name": "gsm8k", "speed": load}),
    _ODD_NUMBERS.map(lambda number: {"name": "tools", "toolCalls": {"numRequests": number}}),
    st.just({"name": "both", "accuracy": {}, "toolCalls": {}}),
    st.sampled_from(({"name": "own"}, {"name": "x" * 23}, {}, {"name": "own", "speed": None}, {"speed": {}}, None)),
)
_SUITES = st.lists(
    st.one_of(_RECIPE_SUITES, _OWN_SUITES), min_size=1, max_size=4, unique_by=lambda suite: str(suite["name"])
)

_METRICS = st.sampled_from(
    ("output_throughput", "p99_ttft_ms", "accuracy", "invalid", "concurrency", "valid_tool_calls")
)
_THRESHOLDS = st.lists(
    st.fixed_dictionaries(
        {
            "suite": st.sampled_from(("speed-low", "gsm8k", "own", "asked", "tools")),
            "metric": _METRICS,
        },
        optional={"min": st.sampled_from((0, 0.64, 1_000)), "max": st.sampled_from((0, 0.9, 1_000, 1e12))},
    ),
    max_size=2,
)
_ODD_THRESHOLDS = st.sampled_from(
    (
        [{"suite": "gsm8k", "metric": "nobody", "min": 1}],
        [{"suite": "gsm8k", "metric": "Accuracy", "min": 1}],
        [{"suite": "gsm8k", "metric": "accuracy", "min": -1}],
        [{"suite": "gsm8k", "metric": "accuracy", "min": "1"}],
        [{"suite": "gsm8k", "metric": "accuracy", "min": None, "max": None}],
        [{"metric": "accuracy", "min": 1}],
        "accuracy",
    )
)
_FILES = st.sampled_from(
    (
        {"configMap": "gsm8k", "path": "test.jsonl"},
        {"persistentVolumeClaim": "data", "path": "a/b_c-d.json"},
        {"configMap": "a", "persistentVolumeClaim": "b", "path": "x"},
        {"path": "x"},
    )
)
_ODD_FILES = st.sampled_from(
    ({"configMap": "a", "path": "/x"}, {"configMap": "A", "path": "x"}, {"configMap": "a"}, [])
)

# For each field: its good values, and values that are nearly right. Good values of two fields may exclude each other.
_FIELDS: Mapping[str, tuple[Strategy, Strategy]] = {
    "serverRef.name": (st.sampled_from(("kimi", "a.b")), _ODD_NAMES),
    "endpoint": (
        st.sampled_from(({"url": "http://kimi:30000"}, {"url": "https://a.b", "apiKeySecretRef": {"name": "key"}})),
        st.sampled_from(({"url": "kimi:30000"}, {"url": "http://kimi/v1"}, {"url": "ftp://x"}, {}, {"model": "x"})),
    ),
    "suites": (_SUITES, st.lists(st.one_of(_RECIPE_SUITES, _ODD_SUITES), max_size=3)),
    "client.image": (st.sampled_from(("a/b:1", "x" * 512)), st.sampled_from(("", ":v1", "a b", "x" * 513))),
    "client.tokenizer": (st.sampled_from(("/models/kimi", "a/b")), st.sampled_from(("", "-x", "a b", "~"))),
    "client.extraPipPackages": (st.sampled_from(([], ["tiktoken"])), st.sampled_from((["a b"], ["-e ."], [1]))),
    "datasets.shareGPT": (_FILES, _ODD_FILES),
    "datasets.gsm8k": (_FILES, _ODD_FILES),
    "baseline.source": (st.sampled_from(("recipe", "benchmark", "none")), st.sampled_from(("Recipe", "last", 1))),
    "baseline.benchmark": (st.sampled_from(("last", "nightly")), _ODD_NAMES),
    "baseline.maxRegressionPercent": (st.sampled_from((0, 0.5, 1000)), _ODD_NUMBERS),
    "baseline.metrics": (
        st.lists(_METRICS, min_size=1, max_size=2),
        st.sampled_from(([], ["x" * 65], ["nobody"], "accuracy", [1])),
    ),
    "thresholds": (_THRESHOLDS, _ODD_THRESHOLDS),
    "maxErrorRate": (st.sampled_from((0, 0.5, 1)), st.sampled_from((-0.1, 1.1, "0", 2))),
    "timeoutSeconds": (st.sampled_from((10, 604_800)), st.sampled_from((9, 604_801, "1h", 10.0))),
    "backoffLimit": (st.sampled_from((0, 10)), st.sampled_from((11, -1, "1"))),
    "suspend": (st.booleans(), st.sampled_from(("yes", 1))),
    "queueName": (st.sampled_from(("a", "user-queue")), st.sampled_from(("A", "a.b", "a" * 64, ""))),
    "podTemplate": (
        st.sampled_from(({}, {"spec": {"containers": [{"name": "client", "env": [{"name": "A", "value": "b"}]}]}})),
        POD_TEMPLATES,
    ),
}
_NAMES = st.sampled_from(("nightly", "nightly", "nightly", "a" * 40, "a" * 41, "1a", "a.b", "A", "a-"))


@st.composite
def benchmark_manifests(draw: st.DrawFn) -> dict[str, Json]:
    """A KimiLinearBenchmark as users might write it. About half of them are valid."""
    spec: dict[str, Json] = {"serverRef": {"name": "kimi"}} if draw(st.integers(0, 9)) else {}
    return draw_manifest(draw, "KimiLinearBenchmark", _NAMES, _FIELDS, spec)
