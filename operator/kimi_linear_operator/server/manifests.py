"""The children of a server.

Pure functions build them from the spec. For a new kind of child, add one module, and one entry in this module.
"""

from collections.abc import Iterator

from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.kinds import (
    AUTOSCALER,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    HTTP_ROUTE,
    INGRESS,
    NETWORK_POLICY,
    POD_MONITOR,
    PROMETHEUS_RULE,
    REVISION,
    SCALED_OBJECT,
    SERVICE,
    Kind,
    Manifest,
)
from kimi_linear_operator.server import (
    autoscaler,
    deployment,
    disruption,
    monitoring,
    network_policy,
    revision,
    router,
    routes,
    scaled_object,
    service,
)
from kimi_linear_operator.server.labels import REVISION_ANNOTATION
from kimi_linear_operator.server.network_policy import NO_NEEDS, Needs
from kimi_linear_operator.server.sleeping import is_woken_by_router, keda_of
from kimi_linear_operator.server.spec import KimiLinearServer
from kimi_linear_operator.weights.location import Location

CHILDREN = (REVISION, DEPLOYMENT, SERVICE, DISRUPTION_BUDGET)
"""The kinds of children that every cluster has and that every Role of the operator allows, the most important first."""

OPTIONAL_CHILDREN: tuple[Kind, ...] = (
    AUTOSCALER,
    SCALED_OBJECT,
    NETWORK_POLICY,
    POD_MONITOR,
    PROMETHEUS_RULE,
    INGRESS,
    HTTP_ROUTE,
)
"""The kinds of children that may be missing in a cluster. This affects only servers that ask for such a child."""


def build(server: KimiLinearServer, location: Location | None = None) -> list[Manifest]:
    """Return the children of a new server whose router serves, without the revision.

    Args:
        server: The server.
        location: Where its model is, None if it comes from the hub or from a folder.
    """
    companions = build_companions(server, leads_to="router" if server.spec.router else "replicas")
    return [*companions, build_deployment(server, deployment.build_pod_template(server, location))]


def build_pod_templates(server: KimiLinearServer) -> list[Manifest]:
    """Return the pod templates of the replicas and of the router, without the volume of the model."""
    replicas = deployment.build_pod_template(server)
    options = server.spec.router
    return [replicas, *([router.build_pod_template(server, options)] if options else [])]


def build_companions(
    server: KimiLinearServer,
    *,
    leads_to: service.Backend = "replicas",
    has_router: bool = False,
    router_record: revision.Revision | None = None,
    limits: autoscaler.Limits = autoscaler.NO_LIMITS,
    others: Needs = NO_NEEDS,
) -> list[Manifest]:
    """Return the children of a server, without its Deployment and its revision.

    Args:
        server: The server.
        leads_to: Where its Service leads.
        has_router: Whether pods of a router exist. After the router was switched off, they can still finish requests.
        router_record: The record of the router's pod template, None to build the template.
        limits: What its autoscaler may do now.
        others: The needs of pods with an older template, for the NetworkPolicy.
    """
    companions = (
        *_companions(server, router_record, leads_to),
        *_optional_companions(server, has_router=has_router, limits=limits, others=others),
    )
    return [metadata.with_fingerprint(manifest) for manifest in companions]


def build_deployment(server: KimiLinearServer, template: Manifest, number: int = 0) -> Manifest:
    """Return the Deployment of a server.

    Args:
        server: The server.
        template: The pod template.
        number: The number of the revision with this template, 0 if there is none.
    """
    manifest = deployment.build_deployment(server, template)
    if number:
        metadata.annotate(manifest, REVISION_ANNOTATION, str(number))
    return metadata.with_fingerprint(manifest)


def build_revision(server: KimiLinearServer, record: revision.Revision) -> Manifest:
    """Return the ControllerRevision of a revision. Its data never changes, so the fingerprint does not include it."""
    manifest = revision.build_revision(server, record)
    return {**metadata.with_fingerprint({**manifest, "data": {}}), "data": manifest["data"]}


def _companions(
    server: KimiLinearServer, record: revision.Revision | None, leads_to: service.Backend
) -> Iterator[Manifest]:
    spec = server.spec
    yield service.build_service(server, leads_to)
    if spec.service.headless or spec.router:
        yield service.build_headless_service(server)
    if disruption.needs_disruption_budget(server):
        yield disruption.build_disruption_budget(server)
    if spec.router:
        yield router.build_router(server, spec.router, record)
    if router.wanted_routers(spec) > 1:
        yield router.build_disruption_budget(server)


def _optional_companions(
    server: KimiLinearServer, *, has_router: bool, limits: autoscaler.Limits, others: Needs
) -> Iterator[Manifest]:
    spec = server.spec
    if autoscaler.needs_autoscaler(server):
        build_scaler = scaled_object.build_scaled_object if keda_of(spec) else autoscaler.build_autoscaler
        yield build_scaler(server, limits)
    if policy := spec.network_policy:
        yield network_policy.build_network_policy(server, policy, others)
        if spec.router or has_router:
            yield network_policy.build_router_policy(server, policy)
    if watched := spec.monitoring:
        yield monitoring.build_pod_monitor(server, watched)
        yield monitoring.build_alerts(server, watched)
        if is_woken_by_router(spec):
            yield monitoring.build_router_monitor(server, watched)
    yield from routes.build_routes(server)
