"""The packages that SGLang's server needs on a CPU are pinned with hashes."""

import re
from pathlib import Path

import pytest

REQUIREMENTS = Path(__file__).parents[3] / "requirements"


@pytest.mark.parametrize("release", ["0.5.7", "0.5.23"])
def test_every_named_package_has_hashes_and_no_other_package_has_any(release: str) -> None:
    named = [
        line
        for line in (REQUIREMENTS / f"sglang-server-{release}.in").read_text().splitlines()
        if not line.startswith("#")
    ]
    pins = (REQUIREMENTS / f"sglang-server-{release}.txt").read_text().replace(" \\\n    --hash=", " ").splitlines()
    assert [pin.split(" ")[0] for pin in pins] == named
    assert all(re.fullmatch(r"\S+( sha256:[0-9a-f]{64})+", pin) for pin in pins)
