"""Clusters in which a test can play the kubelet of a pod: simulated nodes leave held pods alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import chart
from control_plane import LocalCluster
from integration.kubelet import HELD, stages_without


@contextmanager
def cluster_of_held_pods(state: Path, name: str, *options: str) -> Iterator[LocalCluster]:
    """A cluster with a release of the chart, without nodes. The release has no replicas: tests start the operator.

    Args:
        state: The folder of its files.
        name: Its name.
        options: More options of `helm install`.
    """
    with LocalCluster(state, name) as started:
        chart.install(started.kubeconfig, "--set=replicas=0", *options)
        started.kubectl.apply(stages_without(f'.metadata.annotations["{HELD}"]'))
        yield started
