"""The target of a benchmark: whether it is ready."""

from dataclasses import dataclass

from kimi_linear_operator.benchmark import target
from kimi_linear_operator.benchmark.spec import KimiLinearBenchmark
from kimi_linear_operator.benchmark.status import READY
from kimi_linear_operator.benchmark.target import Target
from kimi_linear_operator.kubernetes.conditions import Reason, ready_condition
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.reconcile.cache import Cache
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.server.client_pod import api_key_reference
from kimi_linear_operator.server.definition import CHECKER as SERVERS
from kimi_linear_operator.server.owned import own_deployment
from kimi_linear_operator.server.sglang import command_line
from kimi_linear_operator.server.spec import SERVER, KimiLinearServer

# With these reasons, no suite can start until somebody changes something.
_UNUSABLE = ("ApiKeyUnknown", "ServerMissing")


def is_unusable(reason: str) -> bool:
    """Return whether a target with this reason of TargetReady stays unready until somebody changes something."""
    return reason in _UNUSABLE


@dataclass(frozen=True)
class TargetState:
    """The target of a benchmark, as it is now.

    Attributes:
        reason: The reason of TargetReady; its name is one of `READY` if the target is ready.
        target: The target, None if there is no server or its spec cannot be read.
    """

    reason: Reason
    target: Target | None = None

    @property
    def is_ready(self) -> bool:
        """Return whether a suite may start."""
        return self.reason.name in READY and self.target is not None


@dataclass(frozen=True)
class ServerState:
    """The state of the server that a benchmark measures, as the API server has it, with a readable status.

    Attributes:
        snapshot: What must not change while a suite runs, as JSON. It is empty for an endpoint.
        server: The server, None if there is none, or if the benchmark measures an endpoint.
    """

    snapshot: str
    server: Manifest | None = None


def target_state(cache: Cache, benchmark: KimiLinearBenchmark) -> TargetState:
    """Return the state of a benchmark's target."""
    reference = benchmark.spec.server_ref
    if reference is None:
        reason = Reason("EndpointGiven", "the operator cannot check whether an endpoint is ready")
        return TargetState(reason, target.of_endpoint(benchmark))
    key = Key(benchmark.metadata.namespace, reference.name, SERVER)
    manifest = cache.get(key.of(SERVER))
    if manifest is None:
        return TargetState(_missing(key))
    template = _template(cache, key, manifest["metadata"]["uid"])
    # A server may be ready although this version cannot read its spec.
    server = SERVERS.read_stored(manifest)
    measured = target.of_server(benchmark, server, template) if server else None
    return TargetState(_server_reason(manifest, server), measured)


def changed_reason(key: Key, facts: Manifest, state: ServerState) -> Reason | None:
    """Return why no suite may start on a server that is different from the one in the cache.

    None if the server is the same and still ready. Otherwise the suite would measure another server than the status
    says, and its verdict would be Invalid.

    Args:
        key: The server.
        facts: The contents of `status.environment`, from the cache.
        state: The server as the API server has it now.
    """
    if state.server is None:
        return _missing(key)
    reason = _server_reason(state.server, SERVERS.read_stored(state.server))
    if reason.name not in READY:
        return reason
    if target.changes_since(facts, state.snapshot):
        return Reason("ServerUnready", f"server {key.name} has just changed, and no watch has shown the change yet")
    return None


def _missing(key: Key) -> Reason:
    return Reason("ServerMissing", f"there is no KimiLinearServer {key.name} in namespace {key.namespace}")


def _template(cache: Cache, key: Key, uid: str) -> Manifest | None:
    """Return the pod template of a server's Deployment, None if it has no Deployment."""
    deployment = own_deployment(cache, key, uid)
    return deployment["spec"].get("template") if deployment else None


def _server_reason(manifest: Manifest, server: KimiLinearServer | None) -> Reason:
    """Return the reason of TargetReady for a server: ServerReady, or why it cannot be measured.

    Args:
        manifest: The server as it is stored.
        server: The server, None if its spec cannot be read.
    """
    name = manifest["metadata"]["name"]
    ready = ready_condition(manifest.get("status", {}))
    if ready.get("observedGeneration") != manifest["metadata"]["generation"]:
        return Reason("ServerUnready", f"server {name} was changed, and the operator has not handled the change yet")
    if ready.get("status") != "True":
        return Reason("ServerUnready", f"server {name} is not ready: {ready.get('reason')}")
    if server is None:
        return Reason("ServerUnready", f"the spec of server {name} cannot be read")
    if command_line.api_key_variable(server.spec) and api_key_reference(server.spec) is None:
        return Reason(
            "ApiKeyUnknown",
            f"the API key of server {name} does not come from a Secret; use spec.auth.apiKeySecretRef of the server",
        )
    return Reason("ServerReady", f"server {name} is ready")
