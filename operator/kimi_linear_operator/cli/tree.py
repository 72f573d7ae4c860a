"""The tree of a resource: its workloads, their pods, and the containers of the pods."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from kimi_linear_operator.foreigntext import one_line
from kimi_linear_operator.kubernetes.conditions import find_condition
from kimi_linear_operator.kubernetes.goal import Goal
from kimi_linear_operator.kubernetes.kinds import BENCHMARK, CLAIM, DEPLOYMENT, JOB, Kind, Manifest
from kimi_linear_operator.kubernetes.metadata import is_being_deleted, owner_uids
from kimi_linear_operator.kubernetes.pod_reasons import worst_reason
from kimi_linear_operator.server.sglang.program import SGLANG

# In columns. Every line of a tree is shorter than this, so no line is wrapped.
_WIDE = 2000
_LONGEST_LABEL = 600


@dataclass(frozen=True)
class Branch:
    """A line of a tree, and the branches below it."""

    label: str
    branches: tuple["Branch", ...] = ()


def build_tree(
    resource: Manifest, goal: Goal, workloads: Sequence[tuple[Kind, Manifest]], pods: Sequence[Manifest], now: str
) -> Branch:
    """Return the tree of a resource.

    Args:
        resource: The resource.
        goal: The goal of the resource.
        workloads: Its children of the kinds in `STATES`, with their kinds.
        pods: Its pods.
        now: The time as RFC 3339.
    """
    reached = find_condition(resource.get("status", {}), goal.condition)
    words = goal.reached if reached.get("status") == "True" else goal.not_reached
    # Without the verb: "ready", "not ready".
    state = words.partition(" ")[2]
    label = f"{resource['kind']} {resource['metadata']['name']}: {state}, {reached.get('reason', 'Pending')}"
    startup: Manifest = resource.get("status", {}).get("startup", {})
    of_workloads = [[pod for pod in pods if _has(kind, workload, pod)] for kind, workload in workloads]
    placed = {pod["metadata"]["name"] for group in of_workloads for pod in group}
    branches = [
        Branch(
            f"{kind.kind} {workload['metadata']['name']}: {_state(kind, workload)}", _pod_branches(group, startup, now)
        )
        for (kind, workload), group in zip(workloads, of_workloads, strict=True)
    ]
    others = _pod_branches([pod for pod in pods if pod["metadata"]["name"] not in placed], startup, now)
    return Branch(label, (*branches, *others))


def drawn(root: Branch) -> Tree:
    """Return a tree as rich draws it."""
    tree = Tree(_text(root.label))
    _grow(tree, root.branches)
    return tree


def lines(root: Branch) -> Iterator[str]:
    """Yield the lines of a tree, without colours."""
    console = Console(width=_WIDE, color_system=None)
    with console.capture() as captured:
        console.print(drawn(root))
    yield from (line.rstrip() for line in captured.get().splitlines())


def _grow(tree: Tree, branches: Iterable[Branch]) -> None:
    for branch in branches:
        _grow(tree.add(_text(branch.label)), branch.branches)


def _text(label: str) -> Text:
    """Return a label on one line, without markup, secrets and escapes."""
    return Text(one_line(label)[:_LONGEST_LABEL])


def _state(kind: Kind, workload: Manifest) -> str:
    return STATES[kind](workload) + (", being deleted" if is_being_deleted(workload) else "")


def _deployment_state(workload: Manifest) -> str:
    status, wanted = workload.get("status", {}), workload.get("spec", {}).get("replicas", 1)
    return f"{status.get('availableReplicas', 0)} of {wanted} replicas available"


def _job_state(workload: Manifest) -> str:
    status = workload.get("status", {})
    for kind, word in (("Complete", "succeeded"), ("Failed", "failed"), ("Suspended", "suspended")):
        if find_condition(status, kind).get("status") == "True":
            return word
    failed = status.get("failed", 0)
    return f"{status.get('active', 0)} active" + (f", {failed} failed" if failed else "")


def _claim_state(claim: Manifest) -> str:
    return str(claim.get("status", {}).get("phase", "no phase"))


def _benchmark_state(benchmark: Manifest) -> str:
    return str(find_condition(benchmark.get("status", {}), "Succeeded").get("reason", "Pending"))


STATES: Mapping[Kind, Callable[[Manifest], str]] = {
    DEPLOYMENT: _deployment_state,
    JOB: _job_state,
    CLAIM: _claim_state,
    BENCHMARK: _benchmark_state,
}
"""Functions that describe the state of a child, by its kind. Children of other kinds have no state of their own."""


def _has(kind: Kind, workload: Manifest, pod: Manifest) -> bool:
    """Return whether a pod belongs to a workload. The pods of a Deployment belong to its ReplicaSets."""
    if workload["metadata"].get("uid") in owner_uids(pod):
        return True
    owners = [
        owner.get("name", "")
        for owner in pod["metadata"].get("ownerReferences", ())
        if owner.get("kind") == "ReplicaSet"
    ]
    return kind == DEPLOYMENT and any(name.rpartition("-")[0] == workload["metadata"]["name"] for name in owners)


def _pod_branches(pods: Iterable[Manifest], startup: Manifest, now: str) -> tuple[Branch, ...]:
    return tuple(Branch(_pod_label(pod, startup, now), tuple(_containers(pod))) for pod in pods)


def _pod_label(pod: Manifest, startup: Manifest, now: str) -> str:
    status = pod.get("status", {})
    phase = "Terminating" if is_being_deleted(pod) else status.get("phase", "Unknown")
    node = pod.get("spec", {}).get("nodeName")
    where = f" on {node}" if node else ""
    is_ready = find_condition(status, "Ready").get("status") == "True"
    reason = None if phase == "Succeeded" else worst_reason([pod], now, SGLANG)
    state = "ready" if is_ready else reason.name if reason else ""
    step = f"phase {startup['phase']}" if startup.get("pod") == pod["metadata"]["name"] and not is_ready else ""
    return f"Pod {pod['metadata']['name']}{where}: " + ", ".join(filter(None, (phase, state, step)))


def _containers(pod: Manifest) -> Iterator[Branch]:
    """Yield the containers of a pod that the kubelet has reported."""
    status = pod.get("status", {})
    for title, group in (("Init container", "initContainerStatuses"), ("Container", "containerStatuses")):
        for container in status.get(group, ()):
            yield Branch(f"{title} {container['name']}: {_container_state(container)}")


def _container_state(container: Manifest) -> str:
    state = container.get("state", {})
    restarts = container.get("restartCount", 0)
    again = f", {restarts} restart{'s' * (restarts > 1)}" if restarts else ""
    if running := state.get("running"):
        readiness = "ready" if container.get("ready") else "not ready"
        return f"running since {running.get('startedAt', 'unknown')}, {readiness}{again}"
    if ended := state.get("terminated"):
        return f"ended with {ended.get('exitCode')} ({ended.get('reason', 'Unknown')}){again}"
    return f"waiting: {state.get('waiting', {}).get('reason', 'not started')}{again}"
