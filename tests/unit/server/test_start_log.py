"""The phases of a start in real logs of SGLang. The tests add the node's time to each line, from SGLang's own times."""

import re
from pathlib import Path

import pytest

from kimi_linear_operator.server.sglang.start_log import phases_in
from processor_time import cost

LOGS = Path(__file__).parents[1] / "sglang_logs/starts"
# When the first line of each phase was written, according to SGLang.
REAL = {
    # On a CPU, there are no graphs to capture.
    "cpu-0.5.7": {"loading": "2026-11-28T23:06:15Z", "warm-up": "2026-11-28T23:06:15Z"},
    # The whole model with random weights, which have no progress bar, on four GPUs.
    "gpu-0.5.17": {
        "loading": "2026-11-28T21:51:36Z",
        "compiling": "2026-11-28T21:51:38Z",
        "warm-up": "2026-11-28T21:52:20Z",
    },
}


def as_the_node_writes_it(log: str) -> str:
    """Return a log as the API server returns it: each line begins with the time at which it was written."""
    lines, written = [], "2026-11-28T21:50:44.000000001Z"
    for line in log.split("\n"):
        if found := re.search(r"\[(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)", line):
            written = f"{found[1]}T{found[2]}.123456789Z"
        lines.append(f"{written} {line}")
    return "\n".join(lines)


def kept(name: str) -> str:
    return as_the_node_writes_it((LOGS / f"{name}.log").read_text())


@pytest.mark.parametrize("name", REAL)
def test_a_real_log_shows_when_each_phase_began(name: str) -> None:
    assert phases_in(kept(name)) == REAL[name]


def test_every_kept_log_is_read() -> None:
    assert {path.stem for path in LOGS.iterdir()} == set(REAL)


@pytest.mark.parametrize("name", REAL)
def test_a_log_read_in_parts_gives_the_same_phases(name: str) -> None:
    lines = kept(name).split("\n")
    found: dict[str, str] = {}
    for begin in range(0, len(lines), 7):
        found = {**phases_in("\n".join(lines[begin : begin + 7])), **found}
    assert found == REAL[name]


@pytest.mark.parametrize(
    ("line", "phase"),
    [
        ("[2026-11-28 23:06:15] Load weight begin. avail mem=19.82 GB", None),
        ("Loading safetensors checkpoint shards:   0% Completed | 0/20 [00:00<?, ?it/s]", "loading"),
        ("Multi-thread loading shards:   5% Completed | 1/20 [00:02<00:38,  2.03s/it]", "loading"),
        ("Loading safetensors using Runai Model Streamer:   0% Completed | 0/20", "loading"),
        ("[2026-11-28 23:06:15 TP0] Load weight end. type=KimiLinearForCausalLM", "loading"),
        ("[2026-11-28 23:06:15 TP3] Capture cuda graph begin. This can take up to several minutes.", "compiling"),
        ("[2026-11-28 23:06:15 TP3] Capture target decode CUDA graph begin. backend=full", "compiling"),
        ("[2026-11-28 23:06:15] INFO:     Uvicorn running on http://0.0.0.0:30000 (Press CTRL+C to quit)", "warm-up"),
        ("Fetching 20 files:  10%|#         | 2/20 [00:10<01:30,  5.00s/it]", None),
    ],
)
def test_the_first_line_of_a_phase_is_recognised(line: str, phase: str | None) -> None:
    found = phases_in(f"2026-11-28T23:06:15.1Z {line}")
    assert found == ({phase: "2026-11-28T23:06:15Z"} if phase else {})


def test_times_of_a_node_in_another_zone_become_utc() -> None:
    assert phases_in("2026-11-29T01:06:15.5+02:00 Uvicorn running on") == {"warm-up": "2026-11-28T23:06:15Z"}


def test_lines_without_a_time_are_ignored() -> None:
    assert phases_in("Uvicorn running on http://0.0.0.0:30000\nyesterday Uvicorn running on\n") == {}


@pytest.mark.parametrize("line", ["Capture " * 32_000, "loading " * 32_000, "Capture " + "a " * 128_000])
def test_the_longest_line_that_is_read_costs_little_time(line: str) -> None:
    assert phases_in(f"2026-11-28T23:06:15.1Z {line}") == {}
    assert cost(lambda: phases_in(f"2026-11-28T23:06:15.1Z {line}"), tries=3) < 20
