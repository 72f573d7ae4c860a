"""Writes the results of a benchmark to a ConfigMap, and reads them again if the benchmark is created again."""

import hashlib
import logging
from dataclasses import dataclass

from kimi_linear_operator import jsontext
from kimi_linear_operator.benchmark import results_config_map
from kimi_linear_operator.benchmark.spec import BENCHMARK, KimiLinearBenchmark
from kimi_linear_operator.benchmark.status import has_all_results
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.kinds import CONFIG_MAP, Manifest
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.errors import LeftoverError, NameTakenError
from kimi_linear_operator.reconcile.fair_memory import FairMemory
from kimi_linear_operator.reconcile.resource_type import Context

logger = logging.getLogger(__name__)

# How many benchmarks to remember. The results of a forgotten benchmark are read or compared again.
_MOST_REMEMBERED = 4096


@dataclass(frozen=True)
class _Compared:
    """The objects of a comparison of results.

    Attributes:
        uid: The UID of the benchmark.
        generation: The generation of its spec.
        version: The resource version of the ConfigMap.
        digest: A digest of the results in the status, empty if there are none.
    """

    uid: str
    generation: int
    version: str
    digest: str = ""


class StoredResults:
    """The ConfigMaps with the results of benchmarks."""

    def __init__(self, context: Context) -> None:
        """Take the context that all reconcilers share."""
        self._cluster = context.cluster
        self._cache = context.cache
        self._children = context.children
        self._now = context.now
        # ConfigMaps that hold no results of their benchmarks, or exactly the results in the status. They are remembered
        # because a comparison of large results takes long.
        self._compared: FairMemory[Key, _Compared] = FairMemory(_MOST_REMEMBERED)

    async def restored(self, benchmark: KimiLinearBenchmark) -> Manifest | None:
        """Return the status of a benchmark that was created again. It comes from the ConfigMap with the results.

        A backup contains no status, and `kubectl delete --cascade=orphan` does not delete the ConfigMap.

        Returns:
            The status, None if the benchmark has one or the ConfigMap does not hold all results of this spec.

        Raises:
            ApiError: The ConfigMap could not be read.
        """
        if benchmark.status.get("startTime"):
            return None
        cached = self._cached(benchmark)
        if cached is None or not results_config_map.is_left_by(cached, benchmark):
            return None
        if self._is_known(benchmark, cached):
            return None
        live = await self._cluster.get(CONFIG_MAP, benchmark.metadata.namespace, results_config_map.name(benchmark))
        if live is None or not results_config_map.is_left_by(live, benchmark):
            return None
        restored = results_config_map.read(live, self._now())
        if has_all_results(benchmark, restored):
            return restored
        self._remember(benchmark, live)
        return None

    async def has_unread(self, benchmark: KimiLinearBenchmark) -> bool:
        """Return whether the API server has a ConfigMap that `restored` has not read yet.

        This is called before the first suite starts, because the results of the suite would replace the results in this
        ConfigMap.

        Raises:
            ApiError: The ConfigMap could not be read.
        """
        if benchmark.status.get("startTime"):
            return False
        live = await self._cluster.get(CONFIG_MAP, benchmark.metadata.namespace, results_config_map.name(benchmark))
        if live is None or not results_config_map.is_left_by(live, benchmark) or self._is_known(benchmark, live):
            return False
        self._cache.put(CONFIG_MAP, live)
        return True

    async def try_to_write(self, benchmark: KimiLinearBenchmark, status: Manifest) -> ApiError | None:
        """Try to write the ConfigMap with the results. Return the error if a retry can help.

        If the name is taken, a retry does not help.
        """
        try:
            await self.write(benchmark, status)
        except ApiError as error:
            logger.warning("Could not write the results, trying again after the verdict: %s", error)
            return error
        return None

    async def write(self, benchmark: KimiLinearBenchmark, status: Manifest) -> None:
        """Write the ConfigMap with the results if it differs. A ConfigMap of this name with another owner stays.

        Raises:
            ApiError: It could not be written.
        """
        digest = hashlib.sha256(jsontext.encode(results_config_map.fields(status))).hexdigest()
        if self._is_known(benchmark, self._cached(benchmark), digest):
            return
        wanted = metadata.with_fingerprint(results_config_map.build(benchmark, status))
        try:
            await self._children.apply(benchmark, wanted)
        except (NameTakenError, LeftoverError) as error:
            logger.warning("Could not write the results: %s", error)
            return
        if cached := self._cached(benchmark):
            self._remember(benchmark, cached, digest)

    def _cached(self, benchmark: KimiLinearBenchmark) -> Manifest | None:
        return self._cache.get(Key(benchmark.metadata.namespace, results_config_map.name(benchmark), CONFIG_MAP))

    def _is_known(self, benchmark: KimiLinearBenchmark, config_map: Manifest | None, digest: str = "") -> bool:
        """Return whether a ConfigMap was already compared with these results."""
        compared = _compared(benchmark, config_map, digest) if config_map else None
        return compared is not None and self._compared.get(benchmark.metadata.namespace, _key(benchmark)) == compared

    def _remember(self, benchmark: KimiLinearBenchmark, config_map: Manifest, digest: str = "") -> None:
        compared = _compared(benchmark, config_map, digest)
        self._compared.put(benchmark.metadata.namespace, _key(benchmark), compared)


def _key(benchmark: KimiLinearBenchmark) -> Key:
    return Key(benchmark.metadata.namespace, benchmark.metadata.name, BENCHMARK)


def _compared(benchmark: KimiLinearBenchmark, config_map: Manifest, digest: str) -> _Compared:
    version = str(config_map["metadata"].get("resourceVersion"))
    return _Compared(benchmark.metadata.uid, benchmark.metadata.generation, version, digest)
