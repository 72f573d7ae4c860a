"""SGLang's releases and the stand-in, the model that they serve, and what clients would download."""

from pathlib import Path

import pytest

from cpu_engine import checkpoint, environment
from engine.targets import Target, targets
from stand_in import data

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
    home = folder / "huggingface"
    checkpoint.write(home)
    data.write_conversations(
        data.snapshot(home / "hub", "datasets", data.CONVERSATIONS) / data.CONVERSATIONS_FILE, count=50
    )
    data.write_questions(folder / "gsm8k.jsonl", count=50)
    return folder
