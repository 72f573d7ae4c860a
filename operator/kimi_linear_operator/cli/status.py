"""`kimi-linear status`: the state of a server, and why it is not ready."""

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
from kimi_linear_operator.kubernetes.kinds import POD, Manifest
from kimi_linear_operator.server.labels import SERVER_LABEL
from kimi_linear_operator.server.spec import SERVER


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("name", help="name of the server")
    parser.add_argument(
        "-n", "--namespace", help="namespace of the server; the default is that of the kubeconfig's context"
    )


def run(options: argparse.Namespace) -> int:
    """Print the state of the server; return 0 if it is ready, 1 if it is not."""
    namespace = context.namespace(options)
    try:
        state = asyncio.run(_read(namespace, options.name))
    except ApiError as error:
        raise CommandError(str(error)) from error
    if state.server is None:
        raise CommandError(f"no KimiLinearServer {options.name} in namespace {namespace}")
    # An older operator that did not clean messages, or somebody else, may have written the status.
    print(cleaned("\n".join(_lines(state.server, state.pods))))
    return 0 if ready_condition(state.server.get("status", {})).get("status") == "True" else 1


@dataclass(frozen=True)
class _State:
    """A server as the API server has it, None if there is none, and its pods."""

    server: Manifest | None
    pods: list[Manifest]


async def _read(namespace: str, name: str) -> _State:
    async with connect() as cluster:
        server = await cluster.get(SERVER, namespace, name)
        return _State(server, await cluster.list(POD, namespace, f"{SERVER_LABEL}={name}"))


def _lines(server: Manifest, pods: Sequence[Manifest]) -> Iterator[str]:
    status = server.get("status", {})
    ready = ready_condition(status)
    is_ready = ready.get("status") == "True"
    yield f"{server['metadata']['name']} is {'ready' if is_ready else 'not ready'}: {ready.get('reason', 'Pending')}"
    yield f"  {ready.get('message', 'the operator has not seen it yet: is it running?')}"
    if status.get("observedGeneration", 0) != server["metadata"]["generation"]:
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
    for title, key in (("URL", "url"), ("Image", "image"), ("Command", "command")):
        if key in status:
            yield f"\n{title}:\n{status[key]}"


def _conditions(status: Manifest) -> list[Manifest]:
    return list(status.get("conditions", ()))


def _pod_row(pod: Manifest) -> tuple[str, ...]:
    status = pod.get("status", {})
    containers = status.get("containerStatuses", ())
    ready = f"{sum(container['ready'] for container in containers)}/{len(pod['spec']['containers'])}"
    restarts = str(sum(container["restartCount"] for container in containers))
    phase = "Terminating" if "deletionTimestamp" in pod["metadata"] else status.get("phase", "")
    return pod["metadata"]["name"], phase, ready, restarts, pod["spec"].get("nodeName", "<none>")
