"""Verification: whether the answers of a server are right with a new pod template.

A KimiLinearBenchmark asks the questions: it is a child of the server, and the server reads its verdict. With mode Block
it asks one pod with the new template, whose readiness gate (`gate.py`) is closed. With mode Warn it asks the server,
when all replicas serve.

The verdict is kept with the revision. So further replicas, restarts and another operator need no second run.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.conditions import Reason, find_condition
from kimi_linear_operator.kubernetes.kinds import BENCHMARK, Manifest
from kimi_linear_operator.server.client_pod import api_key_reference, shared_pod_fields
from kimi_linear_operator.server.gate import has_gate, template_label
from kimi_linear_operator.server.labels import REVISION_ANNOTATION
from kimi_linear_operator.server.revision import Result, Revision
from kimi_linear_operator.server.sglang import command_line
from kimi_linear_operator.server.sglang.running import image_in
from kimi_linear_operator.server.spec import KimiLinearServer, ServerSpec

# A benchmark's name may have 40 characters.
_LONGEST_PREFIX = 20
_ACCURACY, _TOOL_CALLS = "accuracy", "tool-calls"
_TOOL_CALL_METRICS = ("valid_tool_calls", "valid_streamed_tool_calls")


def is_on(spec: ServerSpec) -> bool:
    """Return whether new pod templates of a server are verified."""
    return spec.verification.mode != "Off"


def pod_to_ask(current: Revision, pods: Iterable[Manifest]) -> Manifest | None:
    """Return the first pod with a pod template that could serve, None if there is none."""
    label = template_label(current.template)
    able = [pod for pod in pods if label and template_label(pod) == label and _can_answer(pod)]
    return min(able, key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]), default=None)


def _can_answer(pod: Manifest) -> bool:
    status = pod.get("status", {})
    is_able = find_condition(status, "ContainersReady").get("status") == "True"
    return is_able and bool(status.get("podIP")) and "deletionTimestamp" not in pod["metadata"]


def name_of(server: KimiLinearServer, current: Revision, pod: Manifest | None) -> str:
    """Return the name of the benchmark that verifies a revision.

    Args:
        server: The server.
        current: The revision.
        pod: The pod to ask, None for the whole server.
    """
    identity = [server.metadata.uid, current.number, pod["metadata"]["uid"] if pod else ""]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:10]
    return f"{server.metadata.name[:_LONGEST_PREFIX]}-verify-{digest}"


def build_benchmark(server: KimiLinearServer, current: Revision, pod: Manifest | None) -> Manifest:
    """Return the benchmark that verifies a revision; see `name_of` for the arguments."""
    options, suites = server.spec.verification, _suites(server.spec)
    spec = {
        **(_address_of(server.spec, current, pod) if pod else {"serverRef": {"name": server.metadata.name}}),
        "suites": suites,
        "thresholds": [bound for suite in suites for bound in _bounds(server.spec, suite["name"])],
        "baseline": {"source": "none"},
        "timeoutSeconds": options.timeout_seconds,
    }
    if options.dataset:
        spec["datasets"] = {"gsm8k": options.dataset.model_dump(by_alias=True, exclude_none=True)}
    if inherited := server.spec.inherited_metadata.model_dump(by_alias=True, exclude_defaults=True):
        spec["inheritedMetadata"] = inherited
    manifest = metadata.build_manifest(server, BENCHMARK, name_of(server, current, pod), spec=spec)
    metadata.annotate(manifest, REVISION_ANNOTATION, str(current.number))
    return metadata.with_fingerprint(manifest)


def _suites(spec: ServerSpec) -> list[Manifest]:
    accuracy = {"name": _ACCURACY, "accuracy": {"numQuestions": spec.verification.num_questions}}
    has_tool_calls = spec.tool_call_parser == "enabled"
    return [accuracy, *([{"name": _TOOL_CALLS, "toolCalls": {}}] if has_tool_calls else [])]


def _bounds(spec: ServerSpec, suite: str) -> list[Manifest]:
    options = spec.verification
    if suite == _ACCURACY:
        return [{"suite": suite, "metric": "accuracy", "min": options.min_accuracy}]
    return [{"suite": suite, "metric": metric, "min": options.min_valid_tool_calls} for metric in _TOOL_CALL_METRICS]


def _address_of(spec: ServerSpec, current: Revision, pod: Manifest) -> Manifest:
    """Return the fields of a benchmark that make it ask one pod, with the key and image of the server."""
    key, image = api_key_reference(spec), image_in(current.template)
    fields = shared_pod_fields(spec)
    return {
        "endpoint": {"url": _url(pod), **({"apiKeySecretRef": key} if key else {})},
        # The questions need no tokenizer, so no packages for one.
        "client": {"extraPipPackages": [], **({"image": image} if image else {})},
        **({"podTemplate": {"spec": fields}} if fields else {}),
    }


def _url(pod: Manifest) -> str:
    ip: str = pod["status"]["podIP"]
    return f"http://{f'[{ip}]' if ':' in ip else ip}:{command_line.PORT}"


def result_of(benchmark: Manifest) -> Result | None:
    """Return the result of a verification, None if it has not ended or its numbers do not count."""
    status: Manifest = benchmark.get("status", {})
    succeeded = find_condition(status, "Succeeded")
    verdict = {"True": "Passed", "False": "Failed"}.get(str(succeeded.get("status")))
    if verdict is None or not _is_complete(benchmark) or status.get("verdict") != verdict:
        return None
    name = benchmark["metadata"]["name"]
    return Result(has_passed=verdict == "Passed", message=f"benchmark {name}: {succeeded.get('message', '')}")


def _is_complete(benchmark: Manifest) -> bool:
    return find_condition(benchmark.get("status", {}), "Complete").get("status") == "True"


@dataclass(frozen=True)
class Verified:
    """What is known about the answers of a server with a pod template.

    Attributes:
        result: The result, None if there is none yet.
        benchmark: The benchmark that verifies the template, None if there is none.
        wanted: The benchmark to create, None if there is nothing to do.
    """

    result: Result | None = None
    benchmark: Manifest | None = None
    wanted: Manifest | None = None

    @property
    def kept(self) -> list[Manifest]:
        """Return the benchmark that stays; all others of the server verified other templates, or pods that are gone."""
        return [item for item in (self.benchmark, self.wanted) if item]

    @property
    def holds(self) -> bool | None:
        """Return whether the answers are right, None if that is not known."""
        return self.result.has_passed if self.result else None

    @property
    def reason(self) -> Reason:
        """Return the reason of the condition Verified."""
        if self.result:
            return Reason("Verified" if self.result.has_passed else "VerificationFailed", self.result.message)
        if self.benchmark is None:
            return Reason("Verifying", "waiting for a replica with the current pod template")
        name = self.benchmark["metadata"]["name"]
        state = find_condition(self.benchmark.get("status", {}), "Succeeded")
        said = f"benchmark {name}: {state.get('message', 'it has not begun')}"
        if _is_complete(self.benchmark):
            return Reason("VerificationImpossible", f"{said}. To try again: `kubectl delete klb {name}`")
        return Reason("Verifying", said)


def verified(
    server: KimiLinearServer,
    current: Revision,
    benchmarks: Sequence[Manifest],
    pods: Sequence[Manifest],
    *,
    is_complete: bool,
) -> Verified:
    """Return what is known about a revision, and what to do to know it.

    Args:
        server: The server.
        current: The revision that its pods should have.
        benchmarks: The benchmarks that verify the server.
        pods: Its pods.
        is_complete: Whether all replicas serve with this revision.
    """
    own = [item for item in benchmarks if metadata.annotations(item).get(REVISION_ANNOTATION) == str(current.number)]
    ended = next((item for item in own if result_of(item)), None)
    if current.result or ended:
        return Verified(current.result or (result_of(ended) if ended else None), ended)
    asked = _pods_asked(server, pods)
    names = {name_of(server, current, pod) for pod in asked}
    if pending := next((item for item in own if item["metadata"]["name"] in names), None):
        return Verified(benchmark=pending)
    if not has_gate(server.spec):
        return Verified(wanted=build_benchmark(server, current, None) if is_complete else None)
    pod = pod_to_ask(current, pods)
    return Verified(wanted=build_benchmark(server, current, pod) if pod else None)


def _pods_asked(server: KimiLinearServer, pods: Sequence[Manifest]) -> Sequence[Manifest | None]:
    """Return the pods that a benchmark may ask; None stands for the whole server."""
    if not has_gate(server.spec):
        return [None]
    return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
