"""Hostile objects that the API server stores."""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kimi_linear_operator.benchmark.labels import BENCHMARK_LABEL
from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.kubernetes.kinds import (
    AUTOSCALER,
    CLAIM,
    CONFIG_MAP,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    GROUP,
    HTTP_ROUTE,
    INGRESS,
    JOB,
    NETWORK_POLICY,
    POD,
    REVISION,
    SERVICE,
    VERSION,
    Kind,
    Manifest,
)
from kimi_linear_operator.kubernetes.metadata import MANAGED_BY, MANAGER
from kimi_linear_operator.server.labels import SERVER_LABEL
from kimi_linear_operator.server.spec import SERVER
from kimi_linear_operator.weights.spec import WEIGHTS
from passes import RESOURCES

DEEPEST = 9_900
"""The API server reads 10,000 levels of JSON. Its record of who owns which field is a little deeper than the spec."""

# The API server stores up to 1.5 MB, including the record of who owns which field.
_LARGEST = 600_000
_ODD_NUMBERS = ("0", "-0.0", "1", "-1", "9223372036854775807", "-9223372036854775808", "1e308", "5e-324", "1e15", "0.1")
_ODD_TEXTS = (
    "",
    " ",
    "\\u0000",
    "\\ud800",
    "\\udfff\\ud800",
    "\\u2028\\u2029",
    "\\u202e\\ufeff",
    "\\ud83d\\ude00" * 99,
    "e\\u0301" * 99,
    "\\u001b[2J",
    '\\"]}',
    "$(HOME)${x}{{ }}%s",
    "null",
    "x" * 70_000,
)


@dataclass(frozen=True)
class Hostile:
    """An object to store, as text, because Python's own JSON values cannot express it.

    Attributes:
        kind: Its kind.
        name: Its name.
        text: The object.
        status: A status to write after it was stored, None to write none.
    """

    kind: Kind
    name: str
    text: bytes
    status: bytes | None


def deep(levels: int, opening: str = '{"a":', closing: str = "}") -> str:
    """Return JSON with this depth."""
    return opening * levels + "1" + closing * levels


_REQUIRED: dict[str, Manifest] = {
    "KimiLinearServer": {"replicas": 0},
    "KimiLinearBenchmark": {"serverRef": {"name": "kimi"}},
    "KimiLinearWeights": {"volume": {"existingClaim": "none"}},
}


def hostile_text(kind: Kind, name: str, namespace: str, unknown: str) -> bytes:
    """Return a resource with some JSON as an unknown field of the pod template."""
    required = _REQUIRED[kind.kind]
    manifest = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": kind.kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"podTemplate": {"spec": {"x": "HERE"}}, **required},
    }
    return json.dumps(manifest).replace('"HERE"', unknown).encode()


def hostile_objects(seed: int, count: int, namespace: str) -> Iterator[Hostile]:
    """Yield hostile objects. The same seed gives the same objects."""
    choose = random.Random(seed)  # noqa: S311 - nothing secret
    for number in range(count):
        kind = choose.choice(RESOURCES)
        name = f"hostile-{seed}-{number}"
        text = hostile_text(kind, name, namespace, choose.choice(_UNKNOWN)(choose))
        if choose.random() < 0.3:
            text = text.replace(b'"metadata": {', b'"metadata": {"annotations": {' + _annotations(choose) + b"},", 1)
        yield Hostile(kind, name, text, _status(choose, kind) if choose.random() < 0.6 else None)


NO_TEXT = b"\xe2\x82"
"""Two bytes of a character with three bytes.

We read one U+FFFD. The API server, which returns such bytes, gives two unchanged only where it stores JSON that it does
not parse.
"""

_POD_SPEC: Manifest = {"restartPolicy": "Never", "containers": [{"name": "a", "image": "a"}]}
_TEMPLATE: Manifest = {"metadata": {"labels": {"app": "hostile"}}, "spec": _POD_SPEC}
_CONTENTS: dict[Kind, Manifest] = {
    DEPLOYMENT: {
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "hostile"}},
            "template": {**_TEMPLATE, "spec": {"containers": _POD_SPEC["containers"]}},
        }
    },
    SERVICE: {"spec": {"ports": [{"port": 1}]}},
    CONFIG_MAP: {"data": {"a": "NO TEXT"}},
    AUTOSCALER: {
        "spec": {"scaleTargetRef": {"kind": "NO TEXT", "name": "NO TEXT"}, "maxReplicas": 1},
        "status": {"conditions": "ODD", "desiredReplicas": -1},
    },
    DISRUPTION_BUDGET: {"spec": {"maxUnavailable": 0, "selector": {"matchLabels": {"a": "b"}}}},
    NETWORK_POLICY: {"spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]}},
    CLAIM: {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}},
    JOB: {"spec": {"suspend": True, "template": _TEMPLATE}},
    POD: {"spec": _POD_SPEC},
    INGRESS: {"spec": {"defaultBackend": {"service": {"name": "a", "port": {"number": 1}}}}},
    HTTP_ROUTE: {"spec": {}},
    REVISION: {"revision": 1, "data": {"NO TEXT": ["NO TEXT", "ODD"]}},
}
_OWNER = {"apiVersion": "v1", "kind": "NO TEXT", "name": "NO TEXT", "uid": "NO TEXT", "controller": True}
# Managed fields for every field that the API server treats as opaque JSON.
_ODD_FIELDS = (
    '{"f:NO TEXT":{}}',
    '{"f:metadata":{"f:labels":{"f:NO TEXT":{},"k:{\\"a\\":1}":{}}},"v:\\ud800":{}}',
    '{"f:spec":{"k:NO TEXT":{".":{},"i:99999999999999999999":{}}}}',
    deep(300, '{"f:NO TEXT":', "}").replace("1", "{}"),
    "{}",
)
_ODD_METADATA: tuple[Manifest, ...] = (
    {},
    {"annotations": {"note": "NO TEXT", "kubectl.kubernetes.io/last-applied-configuration": "{NO TEXT"}},
    {"annotations": {"deployment.kubernetes.io/revision": "NO TEXT", "kimi-linear.io/fingerprint": "NO TEXT"}},
    {"ownerReferences": [_OWNER], "generation": -5, "creationTimestamp": None, "selfLink": "NO TEXT"},
    {"ownerReferences": [{**_OWNER, "controller": False, "uid": str(number)} for number in range(300)]},
    {"finalizers": None, "labels": {"": "", "a": None}, "deletionGracePeriodSeconds": -1},
)


def hostile_children(seed: int, namespace: str) -> Iterator[Hostile]:
    """Yield objects of every kind that claim to be our children, with invalid UTF-8 in all strings."""
    choose = random.Random(seed)  # noqa: S311 - nothing secret
    for kind, content in _CONTENTS.items():
        for number, odd in enumerate(_ODD_METADATA):
            name = f"hostile-{seed}-{number}"
            labels = {MANAGED_BY: MANAGER, choose.choice((SERVER_LABEL, BENCHMARK_LABEL)): "any"}
            entry = {"operation": "Update", "fieldsType": "FieldsV1", "time": "2020-01-01T00:00:00Z"}
            metadata = {
                **odd,
                "name": name,
                "namespace": namespace,
                "labels": {**(odd.get("labels") or {}), **labels},
                "managedFields": [
                    {**entry, "manager": manager, "apiVersion": kind.api_version, "fieldsV1": "FIELDS"}
                    for manager in ("NO TEXT", MANAGER)
                ],
            }
            manifest = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **content}
            text = json.dumps(manifest).replace('"FIELDS"', choose.choice(_ODD_FIELDS))
            text = text.replace('"ODD"', choose.choice(_UNKNOWN)(choose))
            yield Hostile(kind, name, text.encode().replace(b"NO TEXT", NO_TEXT), None)


def _deep(choose: random.Random) -> str:
    brackets = choose.choice((('{"a":', "}"), ("[", "]"), ('{"]}":[', "]}"), ('[{"b":"}","a":', "}]")))
    levels = choose.choice((60, 64, 70, 99, 101, 200, 201, 1000, 4900)) // (2 if len(brackets[1]) == 2 else 1)
    return deep(levels, *brackets)


def _wide(choose: random.Random) -> str:
    item = choose.choice(("1", "[]", "{}", "[[]]", '"x"', '{"a":1}', "[[[[[[[1]]]]]]]", "null"))
    return "[" + ",".join([item] * choose.randrange(1, _LARGEST // (len(item) + 1))) + "]"


def _wide_and_deep(choose: random.Random) -> str:
    return f"[{_wide(choose)},{_deep(choose)}]"


def _many_fields(choose: random.Random) -> str:
    # Each key is also in the managed fields.
    return "{" + ",".join(f'"{number}":1' for number in range(choose.randrange(20_000))) + "}"


def _long_text(choose: random.Random) -> str:
    return f'"{choose.choice(("x", "é", chr(92) + "n", chr(92) * 2)) * choose.randrange(1, _LARGEST // 4)}"'


def _odd_values(choose: random.Random) -> str:
    texts = [f'"{text}"' for text in _ODD_TEXTS]
    values = [choose.choice((*_ODD_NUMBERS, *texts, "true", "null", "[]", "{}")) for _ in range(choose.randrange(30))]
    fields = ",".join(f'"{number}{choose.choice(_ODD_TEXTS[:12])}":{value}' for number, value in enumerate(values))
    return f"{{{fields}}}"


_UNKNOWN: tuple[Callable[[random.Random], str], ...] = (
    _deep,
    _deep,
    _wide,
    _wide_and_deep,
    _many_fields,
    _long_text,
    _odd_values,
    _odd_values,
)


def _annotations(choose: random.Random) -> bytes:
    key = choose.choice(("note", "kimi-linear.io/adopt", "kubectl.kubernetes.io/last-applied-configuration"))
    return f'"{key}": "{"y" * choose.randrange(250_000)}"'.encode()


def _status(choose: random.Random, kind: Kind) -> bytes:
    """Return a status that the schema allows, but that no operator writes."""
    statuses = {SERVER: _server_status, BENCHMARK: _benchmark_status, WEIGHTS: _weights_status}
    status = statuses[kind](choose)
    kept = {key: value for key, value in status.items() if choose.random() < 0.7}
    return json.dumps({"status": kept}).encode()


def _conditions(choose: random.Random) -> list[Manifest]:
    types = ["Accepted", "Ready", "Available", "Complete", "Succeeded", "Stalled", "", *map(str, range(20))]
    chosen = choose.sample(types, choose.randrange(len(types)))
    return [
        {
            "type": kind,
            "status": choose.choice(("True", "False", "Unknown")),
            "reason": choose.choice(("", "Pending", "InvalidSpec", "x" * 1024, "\u202e")),
            "message": choose.choice(("", "m" * 30_000, "\x1b[2J")),
            "lastTransitionTime": choose.choice(("1970-01-01T00:00:00Z", "9999-12-31T23:59:59.999+14:00")),
        }
        for kind in chosen
    ]


def _server_status(choose: random.Random) -> Manifest:
    number = choose.choice((-1, 0, 1, 2**62))
    failure = {"pod": "", "container": "", "reason": "", "exitCode": number, "message": "m" * 90_000}
    return {
        "observedGeneration": number,
        "conditions": _conditions(choose),
        "url": "\x00" if choose.random() < 0.2 else "u" * 9_000,
        "command": "c" * choose.randrange(200_000),
        "replicas": number,
        "readyReplicas": -number,
        "selector": "not a selector,,==",
        "lastFailure": {**failure, "time": "1970-01-01T00:00:00Z"},
    }


def _benchmark_status(choose: random.Random) -> Manifest:
    names = ("speed-low", "speed-medium", "speed-high", "gsm8k", "no such suite", "")
    results = [_result(choose, choose.choice(names)) for _ in range(choose.randrange(8))]
    environment = {"server": "\u0000", "serverGeneration": -1, "tensorParallelism": 2**40}
    return {
        "observedGeneration": choose.choice((-1, 2**62)),
        "conditions": _conditions(choose),
        "verdict": choose.choice(("Passed", "Failed", "Invalid")),
        "currentSuite": choose.choice(names),
        "progress": "9/0",
        "startTime": "9999-12-31T23:59:59Z",
        "completionTime": "1970-01-01T00:00:00Z",
        "environment": environment,
        "results": results,
    }


def _weights_status(choose: random.Random) -> Manifest:
    number = choose.choice((-1, 0, 2**62))
    return {
        "observedGeneration": number,
        "conditions": _conditions(choose),
        "claim": choose.choice(("none", "", "../..", "\x00")),
        "commit": choose.choice(("0" * 40, "../../etc", "x" * 90_000)),
        "bytes": number,
        "totalBytes": -number,
        "percent": choose.choice((-1, 101)),
    }


def _result(choose: random.Random, name: str) -> Manifest:
    numbers = {choose.choice(("accuracy", "output_throughput", "", "x" * 99)): choose.choice((0, -1, 1e308, 5e-324))}
    finding = {"rule": "Threshold", "passed": choose.random() < 0.5, "message": "", "value": 1e308}
    return {
        "name": name,
        "kind": choose.choice(("speed", "accuracy")),
        "outcome": choose.choice(("Succeeded", "Failed")),
        "requested": choose.choice((-1, 0, 2**62)),
        "completed": choose.choice((-1, 0, 2**62)),
        "startTime": "1970-01-01T00:00:00Z",
        "completionTime": "1970-01-01T00:00:00Z",
        "metrics": numbers,
        "baseline": numbers,
        "ratios": {},
        "findings": [finding] * choose.randrange(50),
    }
