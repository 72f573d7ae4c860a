"""Finds the records of the pod templates that the operator keeps for routers."""

from kimi_linear_operator.kubernetes import access, plan
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, Manifest
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.resource_type import Context
from kimi_linear_operator.server import router, router_template
from kimi_linear_operator.server.applied_template import running_template
from kimi_linear_operator.server.revision import Revision
from kimi_linear_operator.server.spec import KimiLinearServer
from kimi_linear_operator.server.spec.traffic import Router


class RouterRecords:
    """Reads the records on the Deployments of routers, in the cache or in the API server.

    The cache may show a router without its record: if there is no room for the whole Deployment, an event during the
    pass leaves only the essence. The API server then has the record.
    """

    def __init__(self, context: Context) -> None:
        """Take the context that all reconcilers share."""
        self._cluster = context.cluster
        self._cache = context.cache
        self._allows_node_access = context.options.allows_node_access

    def cached(self, key: Key, server: KimiLinearServer) -> Revision | None:
        """Return the cached record of a router, None if there is none.

        Args:
            key: The key of the server.
            server: The server.
        """
        options = server.spec.router
        return self._allowed(server, options, self._cached_deployment(key, server)) if options else None

    async def find(self, key: Key, server: KimiLinearServer) -> Revision | None:
        """Return the record of a router from the cache, or else from the API server; None if there is none.

        Args:
            key: The key of the server.
            server: The server.

        Raises:
            ApiError: The router's Deployment could not be read.
        """
        options, record = server.spec.router, self.cached(key, server)
        if record or options is None:
            return record
        live = await self.deployment(key, server)
        return self._stored(server, options, live) if live else None

    async def running(self, key: Key, server: KimiLinearServer, before: Revision) -> Revision | None:
        """Return the record of a router from the API server. The cache lacks it, or may be late.

        If there is no record, return a record of the template that the operator applied. None if there is no router.

        Args:
            key: The key of the server.
            server: The server. Its spec was applied.
            before: The revision that the server has had until now.

        Raises:
            ApiError: The router's Deployment could not be read.
        """
        options, live = server.spec.router, await self._live_deployment(key, server)
        if options is None or live is None:
            return None
        built = router.build_pod_template(server, options)
        return self._stored(server, options, live) or router_template.adopted(server, built, live, before)

    async def template(self, key: Key, server: KimiLinearServer, options: Router) -> Manifest:
        """Return the pod template that the operator applied to a router without a record, or else a new one.

        Args:
            key: The key of the server.
            server: The server.
            options: Its `spec.router`.

        Raises:
            ApiError: The router's Deployment could not be read.
        """
        built = router.build_pod_template(server, options)
        live = await self.deployment(key, server)
        return (running_template(built, live) if live else None) or built

    async def deployment(self, key: Key, server: KimiLinearServer) -> Manifest | None:
        """Return a router's Deployment from the API server, None if it is not cached, or if somebody else owns it.

        Args:
            key: The key of the server.
            server: The server.

        Raises:
            ApiError: The router's Deployment could not be read.
        """
        return await self._live_deployment(key, server) if self._cached_deployment(key, server) else None

    def _cached_deployment(self, key: Key, server: KimiLinearServer) -> Manifest | None:
        return self._cache.get(key._replace(name=router.name_of(server)).of(DEPLOYMENT))

    async def _live_deployment(self, key: Key, server: KimiLinearServer) -> Manifest | None:
        """Return the router's Deployment from the API server, None if there is none or somebody else owns it."""
        live = await self._cluster.get(DEPLOYMENT, key.namespace, router.name_of(server))
        return live if live and plan.may_be_taken(live, server) else None

    def _stored(self, server: KimiLinearServer, options: Router, live: Manifest) -> Revision | None:
        """Return the record on a router's Deployment, which the API server has returned with its managed fields."""
        built = router.build_pod_template(server, options)
        return self._allowed(server, options, live) or router_template.read_short(built, live)

    def _allowed(self, server: KimiLinearServer, options: Router, live: Manifest | None) -> Revision | None:
        """Return the record on a router's Deployment, None if its template gives more access than is allowed.

        Users can edit this record. See `Templates._allowed_revisions`. A record of another owner is left out.
        """
        found = router_template.read(live) if live and plan.may_be_taken(live, server) else None
        if found is None or live is None or self._allows_node_access:
            return found
        allowed = access.reach([router.build_pod_template(server, options)])
        return found if access.is_within(found.template, allowed, live["spec"].get("template", {})) else None
