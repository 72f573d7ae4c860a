"""`kimi-linear status` shows weights, too."""

import contextlib
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import AsyncMock

import pytest
import yaml

from kimi_linear_operator.cli import main, status
from kimi_linear_operator.weights.spec import WEIGHTS

CASES = Path(__file__).parents[2] / "golden"


@pytest.mark.parametrize("kind", ["klw", "kimilinearweights", "KimiLinearWeights"])
@pytest.mark.parametrize(
    ("case", "code", "first"),
    [
        ("status-weights-complete", 0, "kimi is ready: WeightsComplete"),
        ("status-weights-downloads", 1, "kimi is not ready: WeightsDownloading"),
    ],
)
def test_the_state_of_weights_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str, case: str, code: int, first: str
) -> None:
    resource, found = (yaml.safe_load((CASES / case / file).read_text()) for file in ("cr.yaml", "status.yaml"))
    resource["metadata"]["generation"] = 1
    weights = {**resource, "status": found["status"]}
    cluster = SimpleNamespace(get=AsyncMock(return_value=weights), list=AsyncMock(return_value=[]))
    monkeypatch.setattr(status, "connect", lambda: contextlib.nullcontext(cluster))
    assert main(["status", f"{kind}/kimi", "--namespace=default"]) == code
    shown = capsys.readouterr().out
    assert shown.startswith(first)
    assert "Claim:\nkimi" in shown
    assert cluster.get.await_args.args == (WEIGHTS, "default", "kimi")


def test_an_unknown_type_is_refused_with_the_list_of_types(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "deploy/nightly", "--namespace=default"]) != 0
    assert "there are kls, klb, klw" in capsys.readouterr().err
