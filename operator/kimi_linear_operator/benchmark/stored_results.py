"""Writes the results of a benchmark to a ConfigMap, and reads them back when the benchmark was created again."""

import logging

from kimi_linear_operator.benchmark import results_config_map
from kimi_linear_operator.benchmark.spec import KimiLinearBenchmark
from kimi_linear_operator.benchmark.status import has_all_results
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.kinds import CONFIG_MAP, Manifest
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.errors import LeftoverError, NameTakenError
from kimi_linear_operator.reconcile.resource_type import Context

logger = logging.getLogger(__name__)


class StoredResults:
    """The ConfigMaps with the results of benchmarks."""

    def __init__(self, context: Context) -> None:
        """Take the context that all reconcilers share."""
        self._cluster = context.cluster
        self._cache = context.cache
        self._children = context.children
        self._now = context.now

    async def restored(self, benchmark: KimiLinearBenchmark) -> Manifest | None:
        """Return the status of a benchmark that was created again, from the ConfigMap with its results.

        A backup holds no status, and `kubectl delete --cascade=orphan` leaves the ConfigMap behind.

        Returns:
            The status, None if the benchmark has one or the ConfigMap does not hold all results of this spec.

        Raises:
            ApiError: The ConfigMap could not be read.
        """
        if benchmark.status.get("startTime"):
            return None
        cached = self._cache.get(Key(benchmark.metadata.namespace, results_config_map.name(benchmark), CONFIG_MAP))
        if cached is None or not results_config_map.is_left_by(cached, benchmark):
            return None
        live = await self._cluster.get(CONFIG_MAP, benchmark.metadata.namespace, results_config_map.name(benchmark))
        if live is None or not results_config_map.is_left_by(live, benchmark):
            return None
        restored = results_config_map.read(live, self._now())
        return restored if has_all_results(benchmark, restored) else None

    async def try_to_write(self, benchmark: KimiLinearBenchmark, status: Manifest) -> bool:
        """Try to write the ConfigMap with the results; return False to retry. A taken name counts as done."""
        try:
            await self.write(benchmark, status)
        except ApiError as error:
            logger.warning("Could not write the results, trying again after the verdict: %s", error)
            return False
        return True

    async def write(self, benchmark: KimiLinearBenchmark, status: Manifest) -> None:
        """Write the ConfigMap with the results if it differs. A ConfigMap of this name with another owner stays.

        Raises:
            ApiError: It could not be written.
        """
        wanted = metadata.with_fingerprint(results_config_map.build(benchmark, status))
        try:
            await self._children.apply(benchmark, wanted)
        except (NameTakenError, LeftoverError) as error:
            logger.warning("Could not write the results: %s", error)
