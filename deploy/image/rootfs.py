"""Makes the root filesystem of an image for one Python environment: `rootfs.py ENVIRONMENT TARGET`.

It runs in the image's build stage, on Debian, with that system's own Python. It copies the environment without unused
modules, the interpreter, its standard library, the shared libraries that any of these load, and certificates. It also
copies the entries of Debian's package database for these files, so that scanners can identify them.
"""

import compileall
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

# The typed models and APIs of the Kubernetes client are 120 of its 126 MB. Each is loaded when code uses it, but the
# operator uses none, because it reads and writes JSON. Only their __init__.py is imported, so it stays.
_UNUSED_MODULES = (
    "kubernetes/client/models",
    "kubernetes/client/api",
    "kubernetes/aio/client/models",
    "kubernetes/aio/client/api",
)
# The last row contains extensions that need more libraries: Berkeley DB, Kerberos, ncurses, Tk.
_UNUSED_LIBRARY = (
    *("site-packages", "dist-packages", "config-*"),
    *("ensurepip", "idlelib", "lib2to3", "pydoc_data", "test", "tkinter", "turtledemo", "turtle.py"),
    *("_curses*", "_dbm*", "_gdbm*", "_tkinter*", "nis.*", "readline.*"),
)
_SCRIPTS = ("kimi-linear", "python")
# If Python is in /usr/local, only this file tells the loader where its library is.
_LOADER_CACHE = Path("/etc/ld.so.cache")
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_USER = 65532
_ACCOUNTS = {
    "etc/passwd": f"root:x:0:0:root:/:/sbin/nologin\nkimi-linear:x:{_USER}:{_USER}::/:/sbin/nologin\n",
    "etc/group": f"root:x:0:\nkimi-linear:x:{_USER}:\n",
}
_WRITABLE_BY_ALL = 0o1777


def main(environment: Path, target: Path) -> None:
    """Build the root filesystem."""
    strip(environment)
    library = Path(sysconfig.get_path("stdlib"))
    for folder in (library, environment):
        left_out = _UNUSED_LIBRARY if folder == library else ()
        ignore = shutil.ignore_patterns("__pycache__", *left_out)
        shutil.copytree(folder, inside(target, folder), symlinks=True, ignore=ignore)
        compile_all(inside(target, folder), target)
    interpreter = Path(sys.executable)
    files = [
        interpreter,
        *shared_libraries([interpreter, *target.rglob("*.so*")], target),
        _LOADER_CACHE,
        _CERTIFICATES,
    ]
    for file in files:
        copy(file, target)
    for name, text in _ACCOUNTS.items():
        (target / name).write_text(text)
    (target / "tmp").mkdir(exist_ok=True)
    (target / "tmp").chmod(_WRITABLE_BY_ALL)
    record_packages([*files, library / "os.py"], target)


def strip(environment: Path) -> None:
    """Remove the modules that no code imports, and the commands of other packages."""
    (packages,) = environment.glob("lib/python3*/site-packages")
    for folder in _UNUSED_MODULES:
        for module in (packages / folder).glob("*.py"):
            if module.name != "__init__.py":
                module.unlink()
    for script in environment.glob("bin/*"):
        if not script.name.startswith(_SCRIPTS):
            script.unlink()


def shared_libraries(programs: Iterable[Path], target: Path) -> set[Path]:
    """Return every library of the system that these programs and libraries load, and the loader."""
    # ldd fails for files that load no library, but still reports the other files.
    done = subprocess.run(["ldd", *map(str, programs)], check=False, capture_output=True, text=True)
    if missing := re.findall(r"(\S+) => not found", done.stdout):
        sys.exit(f"The operator loads these libraries, but the base image lacks them: {missing}")
    found = {Path(path) for path in re.findall(r"^\t(?:\S+ => )?(/\S+) \(0x", done.stdout, re.MULTILINE)}
    return {library for library in found if not library.is_relative_to(target)}


def copy(file: Path, target: Path) -> None:
    """Copy a file and every link in its path, so that the path leads to the same file in the image."""
    walked = Path("/")
    for part in file.parts[1:]:
        walked /= part
        copied = target / walked.relative_to("/")
        if walked.is_symlink():
            copied.parent.mkdir(parents=True, exist_ok=True)
            if not copied.is_symlink():
                copied.symlink_to(walked.readlink())
            copy(walked.parent / walked.readlink() / file.relative_to(walked), target)
            return
    copied.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(file, copied)


def inside(target: Path, path: Path) -> Path:
    """Return where a path of this system is in the root filesystem."""
    return target / path.relative_to("/")


def compile_all(folder: Path, target: Path) -> None:
    """Compile all modules, because the image is read-only later. The same sources give the same bytes."""
    if not compileall.compile_dir(
        folder,
        quiet=1,
        stripdir=str(target),
        prependdir="/",
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    ):
        sys.exit(f"Not all of {folder} could be compiled.")


def record_packages(files: Iterable[Path], target: Path) -> None:
    """Write the entries of Debian's package database for the owners of these files, as in distroless images."""
    folder = target / "var/lib/dpkg/status.d"
    folder.mkdir(parents=True)
    for package in sorted(set(owners(files))):
        query = subprocess.run(["dpkg-query", "--status", package], check=True, capture_output=True, text=True)
        (folder / package.split(":")[0]).write_text(query.stdout)


def owners(files: Iterable[Path]) -> Iterator[str]:
    """Yield the Debian packages of these files. Python in /usr/local belongs to no package."""
    for file in files:
        # /lib is a link, so the database may know a library by either of two names.
        for name in {file, file.resolve(), Path("/", *file.parts[2:])}:
            done = subprocess.run(["dpkg-query", "--search", str(name)], check=False, capture_output=True, text=True)
            for line in done.stdout.splitlines():
                yield from line.rpartition(": ")[0].split(", ")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
