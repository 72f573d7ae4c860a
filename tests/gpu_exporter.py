"""A stand-in for AMD's Device Metrics Exporter 1.5.2: the metrics of a node's GPUs, in the exporter's format.

Names and labels are those of the exporter's list of metrics (docs/configuration/metricslist.md) and of its code
(pkg/amdgpu/gpuagent/gpuagent_gpu_metrics.go). Every metric is a gauge. The numbers are those of a busy MI300X.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

NODE = "gpu-1"

METRICS = {
    "gpu_health": 1,
    "gpu_package_power": 640,
    "gpu_junction_temperature": 71,
    "gpu_memory_temperature": 55,
    "gpu_gfx_activity": 87,
    "gpu_umc_activity": 42,
    "gpu_total_vram": 196592,
    "gpu_used_vram": 172000,
    "gpu_ecc_correct_total": 2,
    "gpu_ecc_uncorrect_total": 1,
    "gpu_ecc_deferred_total": 0,
}
_CLOCKS = {"system": 2100, "memory": 1300, "data": 22}


@dataclass(frozen=True)
class User:
    """The container that uses a GPU.

    Attributes:
        namespace: Its namespace; empty if no container uses the GPU.
        pod: Its pod.
        container: Its name.
    """

    namespace: str = ""
    pod: str = ""
    container: str = ""


def exposition(users: Sequence[User], prefix: str = "") -> str:
    """Return the metrics of a node whose GPU number N is used by users[N].

    Args:
        users: The user of each GPU.
        prefix: What the exporter's configuration puts before the names of metrics (MetricsFieldPrefix).
    """
    lines = [f"# TYPE {prefix}gpu_nodes_total gauge", f'{prefix}gpu_nodes_total{{hostname="{NODE}"}} {len(users)}']
    for name, value in METRICS.items():
        samples = (f"{prefix}{name}{_labels(number, user)} {value}" for number, user in enumerate(users))
        lines += [f"# TYPE {prefix}{name} gauge", *samples]
    return "\n".join([*lines, f"# TYPE {prefix}gpu_clock gauge", *_clocks(users, prefix), ""])


def _clocks(users: Sequence[User], prefix: str) -> Iterator[str]:
    for number, user in enumerate(users):
        for index, (kind, value) in enumerate(_CLOCKS.items()):
            labels = _labels(number, user, clock_index=str(index), clock_type=kind)
            yield f"{prefix}gpu_clock{labels} {value}"


def _labels(number: int, user: User, **more: str) -> str:
    values: Mapping[str, str] = {
        "card_model": "102-G30211-0C",
        **more,
        "container": user.container,
        "deployment_mode": "baremetal",
        "gpu_compute_partition_type": "spx",
        "gpu_id": str(number),
        "gpu_memory_partition_type": "nps1",
        "gpu_partition_id": "0",
        "hostname": NODE,
        "job_id": "",
        "job_partition": "",
        "job_user": "",
        "namespace": user.namespace,
        "pod": user.pod,
        "serial_number": f"692251001{number:03}",
    }
    return "{" + ",".join(f'{name}="{value}"' for name, value in values.items()) + "}"


@contextmanager
def serving(text: str) -> Iterator[str]:
    """Serve metrics. Yield host and port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
