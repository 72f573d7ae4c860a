"""The GPUs of a real node: which of them a container can open, and the device plugin in place of AMD's."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import device_plugin
from integration.kubelet import is_ready
from integration.waiting import wait_for
from kimi_linear_operator.kubernetes.kinds import Manifest
from pod_cluster import GPUS
from real_node import RealCluster

# Opens each device for reading and writing, and prints its path. A path that is not a character device is an error.
_OPEN_ALL = """
import os, stat
paths = ["/dev/kfd", *(f"/dev/dri/{name}" for name in sorted(os.listdir("/dev/dri")))]
for path in paths:
    with open(path, "r+b", buffering=0) as device:
        assert stat.S_ISCHR(os.fstat(device.fileno()).st_mode), path
    print(path)
"""
_FIRST_RENDER_NODE = 128


def gpus_of(cluster: RealCluster, pod: Manifest) -> set[int]:
    """Return the numbers of the GPUs that the engine of a pod can open, each as a card and as a render node."""
    command = ["exec", pod["metadata"]["name"], "--container=sglang", "--", "python3", "-c", _OPEN_ALL]
    kfd, *paths = cluster.kubectl(*command).split()
    numbers = {int(path.removeprefix("/dev/dri/card")) for path in paths if "card" in path}
    renders = {f"/dev/dri/renderD{_FIRST_RENDER_NODE + number}" for number in numbers}
    assert (kfd, set(paths)) == ("/dev/kfd", renders | {f"/dev/dri/card{number}" for number in numbers})
    return numbers


@dataclass(frozen=True)
class DevicePlugin:
    """The device plugin of a real node."""

    cluster: RealCluster

    def restart(self) -> None:
        """End the plugin, and wait until the next one has registered."""
        [old] = self._running()
        self._kubectl("delete", "pod", old, "--wait=false")
        wait_for(
            self._running, "another pod of the plugin runs", lambda pods: len(pods) == 1 and pods != [old], seconds=60
        )
        self.cluster.wait_for_gpus(len(GPUS))

    def lose(self, gpu: int) -> str:
        """Make the plugin report a GPU as unhealthy until its restart. Return the GPU's id."""
        identity = f"0000:{16 * gpu + 5:02x}:00.0"
        self._kubectl("exec", f"daemonset/{device_plugin.NAME}", "--", "/device-plugin", "lose", identity)
        self.cluster.wait_for_gpus(len(GPUS) - 1)
        return identity

    @contextmanager
    def missing(self) -> Iterator[None]:
        """Remove the plugin during the block."""
        self._kubectl("delete", f"daemonset/{device_plugin.NAME}")
        self.cluster.wait_for_gpus(0)
        try:
            yield
        finally:
            self.cluster.kubectl.apply([device_plugin.daemon_set()])
            self.cluster.wait_for_gpus(len(GPUS))

    def _running(self) -> list[str]:
        """Return the names of its running pods that were not deleted."""
        pods = json.loads(self._kubectl("get", "pods", "--selector=name=amdgpu-dp-ds", "--output=json"))["items"]
        return [pod["metadata"]["name"] for pod in pods if is_ready(pod) and "deletionTimestamp" not in pod["metadata"]]

    def _kubectl(self, *arguments: str) -> str:
        return self.cluster.kubectl(f"--namespace={device_plugin.NAMESPACE}", *arguments, timeout=60)
