"""The phases of a start in SGLang's log.

Only the log shows these phases, because SGLang opens its port only when the weights are loaded and the kernels are
compiled.
"""

import re
from collections.abc import Mapping
from datetime import UTC

from kimi_linear_operator.kubernetes.times import moment

# The first line of each phase, in SGLang 0.5.7 and 0.5.23. All repetitions in the patterns are bounded, because a line
# can have 256 KiB.
_FIRST_LINES: Mapping[str, re.Pattern[str]] = {
    # "Load weight begin" comes before the download of weights (model_runner.py). The progress bars of the loaders
    # (weight_utils.py) come after it. A loader without a progress bar, such as the loader of random weights, logs only
    # the end.
    "loading": re.compile(r"\b[Ll]oading (?:[\w ]{0,40}shards|safetensors using )|\bLoad weight end\b"),
    # 0.5.7: "Capture cuda graph begin" (model_runner.py), 0.5.23: "Capture target decode CUDA graph begin"
    # (cuda_graph_setup.py).
    "compiling": re.compile(r"\bCapture [\w ]{0,60}graph begin\b", re.IGNORECASE),
    # SGLang opens its port, and sends the first request to itself (http_server.py).
    "warm-up": re.compile(r"\bUvicorn running on\b"),
}


def phases_in(log: str) -> dict[str, str]:
    """Return when each recognised phase began, by its name. No text of the log is returned.

    Args:
        log: Lines of a container's log, each with the kubelet's time before it.
    """
    found: dict[str, str] = {}
    for line in log.split("\n"):
        time, _, text = line.partition(" ")
        for phase, first_line in _FIRST_LINES.items():
            if phase not in found and first_line.search(text) and (began := _as_utc(time)):
                found[phase] = began
    return found


def _as_utc(time: str) -> str | None:
    """Return a time of the kubelet in Kubernetes' format: in UTC, with whole seconds. None if it is not a time."""
    parsed = moment(time)
    return parsed.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if parsed else None
