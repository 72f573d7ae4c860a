"""Lists the Python packages of the image with their hashes, as CycloneDX: `sbom.py FILE`."""

import sys
import tempfile
from pathlib import Path

import kimi_linear_operator
from commands import exit_code, run

_ROOT = Path(__file__).parents[2]


def write(file: Path) -> None:
    """Write the list. The same requirements give the same bytes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        # The tool does not look for a version that hatchling reads from the package.
        project = Path(folder, "pyproject.toml")
        version = f'version = "{kimi_linear_operator.__version__}"'
        project.write_text((_ROOT / "pyproject.toml").read_text().replace('dynamic = ["version"]', version))
        options = [f"--pyproject={project}", "--mc-type=application", "--output-reproducible", f"--output-file={file}"]
        requirements = _ROOT / "requirements/runtime.txt"
        run([sys.executable, "-m", "cyclonedx_py", "requirements", *options, requirements], timeout=120)


if __name__ == "__main__":
    sys.exit(exit_code(lambda: write(Path(sys.argv[1]))))
