"""The virtual environment of SGLang's clients."""

import subprocess
from pathlib import Path

import pytest

import sglang_client
from commands import LocalClusterError


def test_the_environment_has_sglangs_clients_and_no_torch() -> None:
    sglang_client.environment().ensure_made()
    code = (
        "import sys, sglang.bench_serving, sglang.test.few_shot_gsm8k as c; print(c.__file__, 'torch' in sys.modules)"
    )
    python = sglang_client.environment().python
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout == f"{sglang_client.package()}/test/few_shot_gsm8k.py False\n"


def test_changed_requirements_give_another_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sglang_client.environment().folder
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(sglang_client.REQUIREMENTS.read_text() + "# changed\n")
    monkeypatch.setattr(sglang_client, "REQUIREMENTS", requirements)
    after = sglang_client.environment().folder
    assert after != before
    assert after.parent == before.parent


def test_an_environment_that_cannot_be_made_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(f"{tmp_path}/missing-1.0-py3-none-any.whl --hash=sha256:{'0' * 64}\n")
    monkeypatch.setattr(sglang_client, "REQUIREMENTS", requirements)
    with pytest.raises(LocalClusterError, match=r"could not be installed \(see above\)"):
        sglang_client.environment().ensure_made()
    assert "missing-1.0" in capfd.readouterr().err
    assert [path.name for path in sglang_client.environment().folder.parent.iterdir() if path.is_dir()] == []
