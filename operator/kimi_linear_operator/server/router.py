"""SGLang's router in front of the replicas: its Deployment and its state.

The router has no rights in the cluster. It finds the replicas by DNS. Decision 26 gives the reasons.
"""

from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.conditions import Reason
from kimi_linear_operator.kubernetes.deletion import finalizers_of, hint
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, DISRUPTION_BUDGET, Manifest
from kimi_linear_operator.server.deployment import ENDPOINT_PAUSE_SECONDS, grace_seconds, wanted_replicas
from kimi_linear_operator.server.labels import HEADLESS_SUFFIX, ROUTER_LABEL, ROUTER_SUFFIX, TEMPLATE_ANNOTATION
from kimi_linear_operator.server.revision import Revision
from kimi_linear_operator.server.router_template import text_of
from kimi_linear_operator.server.sglang import command_line, inline, router_flags
from kimi_linear_operator.server.sglang.images import IMAGE_ARCHITECTURE, image_of
from kimi_linear_operator.server.sleeping import is_woken_by_router
from kimi_linear_operator.server.spec import KimiLinearServer, ServerSpec
from kimi_linear_operator.server.spec.traffic import Router

LAUNCHER = inline.program("router_launcher")
CONTAINER = "router"

# An ID that images do not use for their own users. Distroless images call it nonroot.
_USER = 65532
_KEY_FOLDER = "/etc/kimi-linear"
_KEY = "api-key"
_SCRATCH = "tmp"
_SCRATCH_PATH = "/tmp"  # noqa: S108 - a folder of the container
# Measured with three replicas at rest: 98 MiB for the router of 0.3.2 and 22 MiB for the launcher. --max-tree-size (64
# Mi characters) limits the memory of the policies for prompts.
_REQUESTS = {"cpu": "500m", "memory": "512Mi"}
# Parts of the user's pod template. The router's pods perhaps need them, too, to get their image or a node.
_INHERITED = ("imagePullSecrets", "tolerations")


def name_of(server: KimiLinearServer) -> str:
    """Return the name of the router's objects."""
    return server.metadata.name + ROUTER_SUFFIX


def selector(server: KimiLinearServer) -> dict[str, str]:
    """Return the labels that select the router's pods and no replicas. These labels can never change."""
    return {ROUTER_LABEL: server.metadata.name}


def router_pods(server: Manifest) -> tuple[str, ...]:
    """Return the selector of the router's pods as text, empty if a stored server has no router."""
    has_router = server.get("spec", {}).get("router") is not None
    return (f"{ROUTER_LABEL}={server['metadata']['name']}",) if has_router else ()


def wanted_routers(spec: ServerSpec) -> int:
    """Return how many pods of the router should run.

    If no replica should run, the result is 0, unless the router wakes replicas.
    """
    is_needed = wanted_replicas(spec) > 0 or is_woken_by_router(spec)
    return spec.router.replicas if spec.router and is_needed else 0


def is_available(router: Manifest | None) -> bool:
    """Return whether a pod of the router serves, so that requests can go to the router.

    Args:
        router: The live Deployment, None if there is none.
    """
    return _available(router) > 0


def why_unavailable(spec: ServerSpec, router: Manifest | None) -> Reason | None:
    """Return why the router differs from the spec, None if it does not.

    Args:
        spec: The server's spec.
        router: The live Deployment, None if there is none.
    """
    wanted, available = wanted_routers(spec), _available(router)
    if available >= wanted:
        return _why_not_updated(router) if router and wanted else None
    detour = "" if available else "; until a pod serves, requests go directly to the replicas"
    if router and metadata.is_being_deleted(router):
        cause = "" if finalizers_of(router) else ", because its pods have not ended"
        message = f"the former Deployment of the router is still being deleted{cause}{detour}{hint(router)}"
        return Reason("RouterUnavailable", message)
    refused = next((f": {item['message']}" for item in _conditions(router) if _is_refusal(item)), "")
    return Reason("RouterUnavailable", f"{available} of {wanted} pods of the router serve{detour}{refused}")


def _why_not_updated(router: Manifest) -> Reason | None:
    """Return why the former pods of a router still serve in place of new ones, None if this can end by itself."""
    spec = router.get("spec", {})
    if spec.get("paused") and router["status"].get("updatedReplicas", 0) < spec.get("replicas", 0):
        resume = f"kubectl rollout resume deployment/{router['metadata']['name']}"
        return Reason("RolloutPaused", f"somebody has paused the router's Deployment: `{resume}`")
    if not any(item.get("reason") == "ProgressDeadlineExceeded" for item in _conditions(router)):
        return None
    message = f"the router's new pods do not serve after {spec.get('progressDeadlineSeconds')} s; the former ones serve"
    return Reason("RouterUnavailable", message)


def _available(router: Manifest | None) -> int:
    if router is None or metadata.is_being_deleted(router):
        return 0
    return int(router.get("status", {}).get("availableReplicas", 0))


def _conditions(router: Manifest | None) -> list[Manifest]:
    return list((router or {}).get("status", {}).get("conditions", ()))


def _is_refusal(condition: Manifest) -> bool:
    return (condition["type"], condition["status"]) == ("ReplicaFailure", "True") and bool(condition.get("message"))


def build_router(server: KimiLinearServer, router: Router, record: Revision | None = None) -> Manifest:
    """Return the router's Deployment.

    A pod is replaced only when its successor serves. This needs no spare GPU.

    Args:
        server: The server.
        router: Its `spec.router`.
        record: The record of the router's pod template, None to build the template.
    """
    manifest = metadata.build_manifest(
        server,
        DEPLOYMENT,
        name_of(server),
        spec={
            "replicas": wanted_routers(server.spec),
            "selector": {"matchLabels": selector(server)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": record.template if record else build_pod_template(server, router),
        },
    )
    if text := text_of(record) if record else "":
        metadata.annotate(manifest, TEMPLATE_ANNOTATION, text)
    return manifest


def build_pod_template(server: KimiLinearServer, router: Router) -> Manifest:
    """Return the router's pod template."""
    return {"metadata": _pod_metadata(server), "spec": _pod_spec(server, router)}


def build_disruption_budget(server: KimiLinearServer) -> Manifest:
    """Return the router's PodDisruptionBudget. A pod that does not serve can always be evicted."""
    spec = {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": selector(server)},
    }
    return metadata.build_manifest(server, DISRUPTION_BUDGET, name_of(server), spec=spec)


def _pod_metadata(server: KimiLinearServer) -> Manifest:
    """Return the metadata of the router's pods.

    The pods lack the label of the server, because it would make them replicas. They also lack the label of the
    operator, so the operator does not watch them. Their Deployment shows enough.
    """
    inherited = metadata.inherited(server)
    left_out = {*metadata.selector(server), metadata.MANAGED_BY}
    labels = {name: value for name, value in inherited["labels"].items() if name not in left_out}
    return {**inherited, "labels": {**labels, "app.kubernetes.io/component": CONTAINER, **selector(server)}}


def _pod_spec(server: KimiLinearServer, router: Router) -> Manifest:
    overlay = server.spec.pod_template.changes().get("spec") or {} if server.spec.pod_template else {}
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": selector(server)},
    }
    # The engine's images are built for one architecture. Nodes without GPUs may have another one.
    nodes = {} if router.image else {"nodeSelector": {"kubernetes.io/arch": IMAGE_ARCHITECTURE}}
    return {
        "containers": [_container(server, router)],
        "terminationGracePeriodSeconds": grace_seconds(server.spec),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            # With this group, the router can read the file with the API key.
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [spread],
        "volumes": [{"name": _SCRATCH, "emptyDir": {"sizeLimit": "64Mi"}}, *_key_volumes(server.spec)],
        **nodes,
        **{name: overlay[name] for name in _INHERITED if overlay.get(name)},
    }


def _container(server: KimiLinearServer, router: Router) -> Manifest:
    spec = server.spec
    key_file = f"{_KEY_FOLDER}/{_KEY}" if spec.auth.api_key_secret_ref else ""
    replicas = [server.metadata.name + HEADLESS_SUFFIX, str(command_line.PORT), key_file]
    key_mounts = [{"name": _KEY, "mountPath": _KEY_FOLDER, "readOnly": True}] if key_file else []
    return {
        "name": CONTAINER,
        "image": router.image or image_of(spec),
        "command": ["python3", "-c", LAUNCHER],
        "args": [*replicas, *router_flags.command(router.policy, spec.drain.timeout_seconds)],
        "env": [*({"name": name, "value": value} for name, value in router_flags.ENVIRONMENT.items())],
        "ports": [
            {"name": command_line.PORT_NAME, "containerPort": command_line.PORT, "protocol": "TCP"},
            {"name": router_flags.METRICS_PORT_NAME, "containerPort": router_flags.METRICS_PORT, "protocol": "TCP"},
        ],
        "resources": _resources(router),
        **_probes(),
        # Requests arrive until every node has removed the pod from the Service, as they do for a replica.
        "lifecycle": {"preStop": {"sleep": {"seconds": ENDPOINT_PAUSE_SECONDS}}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": _SCRATCH, "mountPath": _SCRATCH_PATH}, *key_mounts],
    }


def _key_volumes(spec: ServerSpec) -> list[Manifest]:
    if not (reference := spec.auth.api_key_secret_ref):
        return []
    items = [{"key": reference.key, "path": _KEY}]
    return [{"name": _KEY, "secret": {"secretName": reference.name, "defaultMode": 0o440, "items": items}}]


def _resources(router: Router) -> Manifest:
    """Return the user's requests and limits. For resources without either, our requests are added."""
    chosen = router.resources.model_dump(by_alias=True, exclude_none=True) if router.resources else {}
    own = {name: amount for name, amount in _REQUESTS.items() if name not in chosen.get("limits", {})}
    return {**chosen, "requests": {**own, **chosen.get("requests", {})}}


def _probes() -> Manifest:
    """Return the probes, which need no API key. /readiness answers 200 while the router has a replica."""
    return {
        "readinessProbe": {
            "httpGet": {"path": "/readiness", "port": command_line.PORT_NAME},
            "periodSeconds": 2,
            "timeoutSeconds": 5,
            "failureThreshold": 3,
        },
        "livenessProbe": {
            "httpGet": {"path": "/liveness", "port": command_line.PORT_NAME},
            "initialDelaySeconds": 15,
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
    }
