"""SGLang's releases and the stand-in, their model, and the files that clients would download."""

from pathlib import Path

import pytest

from cpu_engine import data, environment
from engine.targets import Target, targets

TARGETS = targets()


@pytest.fixture(scope="module", params=TARGETS)
def target(request: pytest.FixtureRequest) -> Target:
    """Return each server in turn; skip a server that cannot run on this machine, with the reason."""
    found = TARGETS[request.param]
    if found.is_real:
        if reason := environment.obstacle():
            pytest.skip(reason)
        environment.environment(found.release).ensure_made()
    return found


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder for the pod's cache: a tiny Kimi-Linear under the real name, conversations and questions."""
    folder = tmp_path_factory.mktemp("cache")
    data.write(folder / "huggingface")
    return folder
