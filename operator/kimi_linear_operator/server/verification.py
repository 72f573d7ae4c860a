"""Verification: checks whether the answers of a server are right with a new pod template.

A KimiLinearBenchmark asks the questions. It is a child of the server, and the operator reads its verdict. With mode
Block, it asks one pod with the new template while the pod's readiness gate (`gate.py`) is closed. With mode Warn, it
asks the server when all replicas serve.

The verdict is stored with the revision. So no second run is needed for more replicas, after a restart, or for another
operator.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.conditions import Reason, find_condition
from kimi_linear_operator.kubernetes.drift import differences, has_drifted
from kimi_linear_operator.kubernetes.kinds import BENCHMARK, Manifest
from kimi_linear_operator.kubernetes.times import seconds_between
from kimi_linear_operator.server.client_pod import api_key_reference, shared_pod_fields
from kimi_linear_operator.server.gate import has_gate, template_label
from kimi_linear_operator.server.labels import REVISION_ANNOTATION
from kimi_linear_operator.server.revision import Result, Revision
from kimi_linear_operator.server.settling import is_staying
from kimi_linear_operator.server.sglang import command_line
from kimi_linear_operator.server.sglang.running import image_in
from kimi_linear_operator.server.spec import KimiLinearServer, ServerSpec

# A benchmark's name can have at most 40 characters.
_LONGEST_PREFIX = 20
# If a verification could not be made, wait this long before the next one. A failed download perhaps works then.
_RETRY_SECONDS = 3600.0
# How many benchmarks to compare with the one that the operator would create. The operator creates one at a time, but
# users can create more with names that they compute.
_MOST_READ = 8
_ACCURACY, _TOOL_CALLS = "accuracy", "tool-calls"
_TOOL_CALL_METRICS = ("valid_tool_calls", "valid_streamed_tool_calls")


def is_on(spec: ServerSpec) -> bool:
    """Return whether new pod templates of a server are verified."""
    return spec.verification.mode != "Off"


def pod_to_ask(current: Revision, pods: Iterable[Manifest]) -> Manifest | None:
    """Return the first pod with this pod template that is able to serve, None if there is none."""
    label = template_label(current.template)
    able = [pod for pod in pods if label and template_label(pod) == label and _can_answer(pod)]
    return min(able, key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]), default=None)


def _can_answer(pod: Manifest) -> bool:
    status = pod.get("status", {})
    is_able = find_condition(status, "ContainersReady").get("status") == "True"
    return is_able and bool(status.get("podIP")) and is_staying(pod) and _is_of_replica_set(pod)


def _is_of_replica_set(pod: Manifest) -> bool:
    """Return whether a ReplicaSet made a pod. Users can create other pods with the server's labels."""
    return any(owner.get("kind") == "ReplicaSet" for owner in pod["metadata"].get("ownerReferences") or ())


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
    target = _address_of(server.spec, current, pod) if pod else {"serverRef": {"name": server.metadata.name}}
    spec = {**target, **checks(server.spec)}
    manifest = metadata.build_manifest(server, BENCHMARK, name_of(server, current, pod), spec=spec)
    metadata.annotate(manifest, REVISION_ANNOTATION, str(current.number))
    return metadata.with_fingerprint(manifest)


def checks(spec: ServerSpec) -> Manifest:
    """Return the fields of a benchmark that define the questions, and how many answers must be right."""
    options, suites = spec.verification, _suites(spec)
    fields = {
        "suites": suites,
        "thresholds": [bound for suite in suites for bound in _bounds(spec, suite["name"])],
        "baseline": {"source": "none"},
        "timeoutSeconds": options.timeout_seconds,
    }
    if options.dataset:
        fields["datasets"] = {"gsm8k": options.dataset.model_dump(by_alias=True, exclude_none=True)}
    if inherited := spec.inherited_metadata.model_dump(by_alias=True, exclude_defaults=True):
        fields["inheritedMetadata"] = inherited
    return fields


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
    """Return the fields with which a benchmark asks one pod, with the API key and image of the server."""
    key, image = api_key_reference(spec), image_in(current.template)
    fields = shared_pod_fields(spec)
    return {
        "endpoint": {"url": _url(pod), **({"apiKeySecretRef": key} if key else {})},
        # The questions need no tokenizer, and so no Python packages for it.
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
    """The state of the verification of a pod template.

    Attributes:
        result: The result, None if there is none yet.
        benchmarks: The benchmarks that stay. They verify this template, and their pods exist.
        wanted: The benchmark to create, None if there is nothing to do.
        is_repeated: Whether `wanted` replaces a benchmark without a result. That benchmark can have the same name.
        obstacle: Why the benchmark could not be created with the wanted spec, empty if it could.
        again: The seconds until the next verification, None if only an event can make one necessary.
    """

    result: Result | None = None
    benchmarks: Sequence[Manifest] = ()
    wanted: Manifest | None = None
    is_repeated: bool = False
    obstacle: str = ""
    again: float | None = None

    @property
    def kept(self) -> list[Manifest]:
        """Return the benchmarks that stay. All others of the server verified other templates, or pods that are gone."""
        return [*self.benchmarks, *([self.wanted] if self.wanted and not self.is_repeated else [])]

    @property
    def holds(self) -> bool | None:
        """Return whether the answers are right, None if this is unknown."""
        return self.result.has_passed if self.result else None

    @property
    def reason(self) -> Reason:
        """Return the reason of the condition Verified."""
        if self.result:
            return Reason("Verified" if self.result.has_passed else "VerificationFailed", self.result.message)
        if self.obstacle:
            return Reason("VerificationImpossible", f"the benchmark cannot be created: {self.obstacle}")
        if not self.benchmarks:
            return Reason("Verifying", "waiting for a replica with the current pod template")
        name = self.benchmarks[0]["metadata"]["name"]
        state = find_condition(self.benchmarks[0].get("status", {}), "Succeeded")
        said = f"benchmark {name}: {state.get('message', 'it has not begun')}"
        if _is_complete(self.benchmarks[0]):
            message = (
                f"{said}. The operator creates another benchmark after an hour, or when you delete this one (`kubectl "
                f"delete klb {name}`)"
            )
            return Reason("VerificationImpossible", message)
        return Reason("Verifying", said)


@dataclass(frozen=True)
class Observed:
    """The state of a server for its verification.

    Attributes:
        server: The server.
        benchmarks: Its benchmarks.
        pods: Its pods.
        is_complete: Whether all replicas serve with the current revision.
        now: The time as RFC 3339.
    """

    server: KimiLinearServer
    benchmarks: Sequence[Manifest]
    pods: Sequence[Manifest]
    is_complete: bool
    now: str

    @property
    def has_gate(self) -> bool:
        """Return whether its pods have a gate, so that the benchmark asks one of them."""
        return has_gate(self.server.spec)


def verified(observed: Observed, current: Revision) -> Verified:
    """Return the state of the verification of the revision that a server's pods should have, and what to do next."""
    made = [item for item in observed.benchmarks if _number_on(item) == str(current.number)]
    if current.result:
        # A revision for a rollout of only the router has the result of an older revision.
        named = [item for item in observed.benchmarks if _is_named(item, current.result)]
        return Verified(current.result, made or named)
    own = _as_built(made, observed, current)
    if ended := next((item for item in own if result_of(item)), None):
        return Verified(result_of(ended), [ended])
    for item in own:
        left = _seconds_until_retry(item, observed.now)
        if left is None or left > 0:
            return Verified(benchmarks=[item], again=left)
    pod = pod_to_ask(current, observed.pods) if observed.has_gate else None
    is_able = pod is not None if observed.has_gate else observed.is_complete
    return _next(build_benchmark(observed.server, current, pod) if is_able else None, made, own, observed.now)


def _is_named(benchmark: Manifest, result: Result) -> bool:
    return result.message.startswith(f"benchmark {benchmark['metadata']['name']}:")


def _next(wanted: Manifest | None, made: Sequence[Manifest], own: Sequence[Manifest], now: str) -> Verified:
    """Return which benchmark to create, and whether it replaces another one with the same name.

    Usually the other benchmark asks something else because somebody has changed `spec.verification`, or because another
    version of the operator created it. But if the operator wanted to create exactly this benchmark, something changes
    each benchmark when it is created. The next one would be changed, too. So the operator waits before it tries again.
    """
    names = [wanted["metadata"]["name"]] if wanted else []
    others = [item for item in made if item["metadata"]["name"] in names and item not in own]
    for other in others:
        left = _RETRY_SECONDS - (seconds_between(other["metadata"].get("creationTimestamp"), now) or 0.0)
        if wanted and left > 0 and _fingerprint(other) == _fingerprint(wanted):
            return Verified(benchmarks=[other], obstacle=_changed(other, wanted), again=left)
    return Verified(wanted=wanted, is_repeated=bool(own or others))


def _fingerprint(benchmark: Manifest) -> str | None:
    return metadata.annotations(benchmark).get(metadata.FINGERPRINT_ANNOTATION)


def _changed(benchmark: Manifest, wanted: Manifest) -> str:
    fields = differences({"spec": benchmark.get("spec", {})}, {"spec": wanted["spec"]})
    name = benchmark["metadata"]["name"]
    return f"an admission webhook or policy, or a user, set other values in {name}: {', '.join(fields)}"


def is_verification(benchmark: Manifest) -> bool:
    """Return whether the operator made a benchmark to verify its owner."""
    return bool(_number_on(benchmark))


def _number_on(benchmark: Manifest) -> str:
    return metadata.annotations(benchmark).get(REVISION_ANNOTATION, "")


def _as_built(made: Sequence[Manifest], observed: Observed, current: Revision) -> list[Manifest]:
    """Return the benchmarks that ask the operator's questions of the server or of an existing pod.

    Users can also create thousands of benchmarks. So only benchmarks with a name from the operator are compared.
    """
    # Soon after a pod has ended, its address may belong to another pod.
    addressed = (pod for pod in observed.pods if is_staying(pod) and pod.get("status", {}).get("podIP"))
    asked: Iterable[Manifest | None] = addressed if observed.has_gate else [None]
    pods = {name_of(observed.server, current, pod): pod for pod in asked}
    named = [item for item in made if item["metadata"]["name"] in pods][:_MOST_READ]
    return [item for item in named if _is_as_built(item, observed.server, current, pods[item["metadata"]["name"]])]


def _is_as_built(benchmark: Manifest, server: KimiLinearServer, current: Revision, pod: Manifest | None) -> bool:
    wanted = build_benchmark(server, current, pod)["spec"]
    return not has_drifted({"spec": benchmark.get("spec", {})}, {"spec": wanted})


def _seconds_until_retry(benchmark: Manifest, now: str) -> float | None:
    """Return the seconds until another benchmark replaces this one, which has no result; None while this one runs."""
    if not _is_complete(benchmark):
        return None
    age = seconds_between(benchmark["status"].get("completionTime"), now) or 0.0
    return max(0.0, _RETRY_SECONDS - age)
