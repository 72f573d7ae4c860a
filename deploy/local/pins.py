"""Pins packages with hashes, without their dependencies: `pins.py FILE.in` writes FILE.txt.

pip-compile would add all dependencies. SGLang depends on 3 GB of CUDA libraries, which a CPU does not need, and on a
version of torch that its newest release does not need on a CPU. So FILE.in names every package with its version, one
per line.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from piptools.repositories import PyPIRepository


def pin(repository: PyPIRepository, requirement: str) -> str:
    """Return a requirement with the hashes of all its wheels for Linux on x86-64.

    Raises:
        LookupError: There is no such wheel.
    """
    name, _, version = requirement.partition("==")
    links = [item.link for item in repository.find_all_candidates(name) if str(item.version) == version]
    hashes = sorted({f"{link.hash_name}:{link.hash}" for link in links if is_usable(link.filename)})
    if not hashes:
        raise LookupError(f"{requirement} has no wheel for Linux on x86-64")
    return " \\\n    --hash=".join([requirement, *hashes])


def is_usable(file: str) -> bool:
    """Whether a file is a wheel that Linux with glibc on x86-64 can use."""
    return file.endswith("-any.whl") or ("manylinux" in file and file.endswith("x86_64.whl"))


def main(source: Path) -> None:
    """Write the pins beside the names."""
    lines = [line for line in source.read_text().splitlines() if line and not line.startswith("#")]
    with TemporaryDirectory() as cache:
        repository = PyPIRepository([], cache_dir=cache)
        with repository.allow_all_wheels():
            pinned = [pin(repository, line) for line in lines]
    source.with_suffix(".txt").write_text("\n".join(pinned) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
