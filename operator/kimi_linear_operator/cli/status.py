"""`kimi-linear status`: the state of a server or of weights, and why it is not ready."""

import argparse
import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kimi_linear_operator.cli import context
from kimi_linear_operator.cli.failure import CommandError
from kimi_linear_operator.cluster.client import connect
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.columns import table
from kimi_linear_operator.foreigntext import cleaned
from kimi_linear_operator.kubernetes.conditions import ready_condition
from kimi_linear_operator.kubernetes.kinds import POD, Kind, Manifest
from kimi_linear_operator.resource_types import TYPES
from kimi_linear_operator.server.spec import SERVER
from kimi_linear_operator.weights.spec import WEIGHTS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("name", help="name of the server, or klw/NAME for weights")
    parser.add_argument("-n", "--namespace", help="its namespace; the default is that of the kubeconfig's context")


def run(options: argparse.Namespace) -> int:
    """Print the state of the resource; return 0 if it is ready, 1 if it is not."""
    namespace = context.namespace(options)
    kind, name = _reference(options.name)
    try:
        state = asyncio.run(_read(kind, namespace, name))
    except ApiError as error:
        raise CommandError(str(error)) from error
    if state.resource is None:
        raise CommandError(f"no {kind.kind} {name} in namespace {namespace}")
    # An older operator that did not clean messages, or somebody else, may have written the status.
    print(cleaned("\n".join(_lines(state.resource, state.pods))))
    return 0 if ready_condition(state.resource.get("status", {})).get("status") == "True" else 1


def _reference(text: str) -> tuple[Kind, str]:
    """Return kind and name of a resource that is written as kubectl takes it: kls/NAME, or only the name of a server.

    Raises:
        CommandError: It is of another kind.
    """
    prefix, _, name = text.rpartition("/")
    kinds = {word: kind for kind in (SERVER, WEIGHTS) for word in _words(kind)}
    if prefix.lower() not in kinds:
        raise CommandError(f"{text}: this verb shows servers (kls/NAME) and weights (klw/NAME)")
    return kinds[prefix.lower()], name


def _words(kind: Kind) -> tuple[str, ...]:
    """Return the words for a kind before the name of a resource; a server needs none."""
    words = (TYPES[kind].definition.short_name, kind.plural, kind.kind.lower())
    return (*words, "") if kind == SERVER else words


@dataclass(frozen=True)
class _State:
    """A resource as the API server has it, None if there is none, and its pods."""

    resource: Manifest | None
    pods: list[Manifest]


async def _read(kind: Kind, namespace: str, name: str) -> _State:
    async with connect() as cluster:
        resource = await cluster.get(kind, namespace, name)
        return _State(resource, await cluster.list(POD, namespace, f"{TYPES[kind].model.label()}={name}"))


def _lines(resource: Manifest, pods: Sequence[Manifest]) -> Iterator[str]:
    status = resource.get("status", {})
    ready = ready_condition(status)
    is_ready = ready.get("status") == "True"
    yield f"{resource['metadata']['name']} is {'ready' if is_ready else 'not ready'}: {ready.get('reason', 'Pending')}"
    yield f"  {ready.get('message', 'the operator has not seen it yet: is it running?')}"
    if status.get("observedGeneration", 0) != resource["metadata"]["generation"]:
        yield "  The operator has not seen the latest change of the spec yet."
    yield ""
    rows = [(item["type"], item["status"], item["reason"], item["lastTransitionTime"]) for item in _conditions(status)]
    yield from table(("CONDITION", "STATUS", "REASON", "SINCE"), rows)
    if pods:
        yield ""
        yield from table(("POD", "PHASE", "READY", "RESTARTS", "NODE"), [_pod_row(pod) for pod in pods])
    if failure := status.get("lastFailure"):
        yield ""
        yield f"Last failure, {failure['time']}: {failure['pod']}, container {failure['container']}"
        yield f"  exit code {failure['exitCode']} ({failure['reason']}): {failure['message']}"
    for title, key in _TITLES:
        if key in status:
            yield f"\n{title}:\n{status[key]}"


# Fields of the status that are shown as they are.
_TITLES = (("URL", "url"), ("Image", "image"), ("Command", "command"), ("Claim", "claim"), ("Commit", "commit"))


def _conditions(status: Manifest) -> list[Manifest]:
    return list(status.get("conditions", ()))


def _pod_row(pod: Manifest) -> tuple[str, ...]:
    status = pod.get("status", {})
    containers = status.get("containerStatuses", ())
    ready = f"{sum(container['ready'] for container in containers)}/{len(pod['spec']['containers'])}"
    restarts = str(sum(container["restartCount"] for container in containers))
    phase = "Terminating" if "deletionTimestamp" in pod["metadata"] else status.get("phase", "")
    return pod["metadata"]["name"], phase, ready, restarts, pod["spec"].get("nodeName", "<none>")
