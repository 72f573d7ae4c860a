"""Shared libraries that do nothing. They replace the CUDA libraries against which PyPI's torch is linked.

The x86-64 wheel of torch on PyPI is the CUDA build, which cannot be imported without NVIDIA's libraries (3 GB).
Without a GPU, torch calls only functions of libcudart, which is in a wheel of 1 MB. Of all other libraries, only the
names of the functions must exist, because Python resolves all of them when it loads a library. A function that is
called all the same ends the process (SIGILL).
"""

import mmap
import re
import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from virtual_environment import packages_in

_SYSTEM = re.compile(r"(ld-linux|lib(c|m|dl|rt|pthread|gcc_s|stdc\+\+|util)\.so)")
# Loaded only on machines with a GPU. Programs look for the first one to find out whether there is a GPU.
_LATER = re.compile(r"lib(cuda|nvrtc)\.so")
_FUNCTION_OF_CUDA = re.compile(r"(cu|nccl|nv)[A-Za-z]")
# Needed by a library of torch that is loaded only on machines with a GPU.
_FOR_GPUS = "nvrtc"

# Constants of ELF: types of sections, tags of the dynamic section, and how symbols are bound.
_DYNAMIC, _DYNAMIC_SYMBOLS, _VERSIONS_NEEDED, _VERSIONS_OF_SYMBOLS = 6, 11, 0x6FFFFFFE, 0x6FFFFFFF
_NEEDED = 1
_GLOBAL_FUNCTION = 0x12
_WEAK = 2


class Symbol(NamedTuple):
    """A function or variable that a library has or needs.

    Attributes:
        name: Its name.
        is_defined: Whether the library has it.
        is_weak: Whether it may be missing.
        library: The library that must have it; empty for any.
        version: Its version there; empty for none.
    """

    name: str
    is_defined: bool
    is_weak: bool
    library: str
    version: str


class _Section(NamedTuple):
    name: int
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry_size: int


class SharedLibrary:
    """The symbols and libraries that a 64-bit little-endian ELF file has and needs."""

    def __init__(self, file: Path) -> None:
        with file.open("rb") as opened:
            self._data = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        (start,) = struct.unpack_from("<Q", self._data, 0x28)
        size, count = struct.unpack_from("<HH", self._data, 0x3A)
        self._sections = [
            _Section(*struct.unpack_from("<IIQQQQIIQQ", self._data, start + number * size)) for number in range(count)
        ]

    def needed(self) -> set[str]:
        """Return the libraries against which it is linked."""
        return {
            self._text(section, place)
            for section in self._of_type(_DYNAMIC)
            for tag, place in struct.iter_unpack("<qQ", self._bytes(section))
            if tag == _NEEDED
        }

    def symbols(self) -> Iterator[Symbol]:
        """Yield the symbols that it defines, and the symbols that it needs from other libraries."""
        versions = dict(self.versions())
        for section in self._of_type(_DYNAMIC_SYMBOLS):
            numbers = [0] * (section.size // section.entry_size)
            for table in self._of_type(_VERSIONS_OF_SYMBOLS):
                numbers = [number for (number,) in struct.iter_unpack("<H", self._bytes(table))]
            entries = struct.iter_unpack("<IBBHQQ", self._bytes(section))
            for (place, info, _, where, _, _), number in zip(entries, numbers, strict=True):
                library, version = versions.get(number & 0x7FFF, ("", ""))
                yield Symbol(self._text(section, place), bool(where), info >> 4 == _WEAK, library, version)

    def versions(self) -> Iterator[tuple[int, tuple[str, str]]]:
        """Yield each needed symbol version: its number, the library and its name."""
        for section in self._of_type(_VERSIONS_NEEDED):
            at, following = section.offset, 1
            while following:
                _, _, library, first, following = struct.unpack_from("<HHIII", self._data, at)
                one, after = at + first, 1
                while after:
                    _, _, number, name, after = struct.unpack_from("<IHHII", self._data, one)
                    yield number, (self._text(section, library), self._text(section, name))
                    one += after
                at += following

    def _of_type(self, number: int) -> list[_Section]:
        return [section for section in self._sections if section.type == number]

    def _bytes(self, section: _Section) -> bytes:
        return self._data[section.offset : section.offset + section.size]

    def _text(self, section: _Section, place: int) -> str:
        start = self._sections[section.link].offset + place
        return self._data[start : self._data.find(b"\0", start)].decode()


@dataclass(frozen=True)
class Missing:
    """A missing library: its name, and its functions by version. The version may be empty."""

    name: str
    functions: Mapping[str, frozenset[str]]


def complete(environment: Path) -> None:
    """Give the torch of a virtual environment the libraries of CUDA that it lacks."""
    packages = packages_in(environment)
    folder = packages / "torch/lib"
    torch = [file for file in sorted(folder.glob("lib*.so*")) if _FOR_GPUS not in file.name]
    present = [*torch, *packages.glob("nvidia/**/lib/*.so*")]
    for missing in find_missing(torch, present):
        (folder / missing.name).write_bytes(build(missing))


def find_missing(files: Sequence[Path], present: Sequence[Path]) -> list[Missing]:
    """Return the missing CUDA libraries that some files need.

    If no version says to which library a function belongs, it is in the first one.
    """
    libraries = [SharedLibrary(file) for file in files]
    there = {file.name for file in present}
    defined = {one.name for file in present for one in SharedLibrary(file).symbols() if one.is_defined}
    functions: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for library in libraries:
        for _, (name, version) in library.versions():
            functions[name][version] |= set()
        for one in library.symbols():
            if not (one.is_defined or one.is_weak) and _FUNCTION_OF_CUDA.match(one.name):
                functions[one.library][one.version].add(one.name)
    needed = sorted({name for library in libraries for name in library.needed()} - there)
    names = [name for name in needed if not _SYSTEM.match(name) and not _LATER.match(name)]
    loose = frozenset(functions[""][""] - defined)
    return [
        Missing(name, _frozen(functions[name]) | ({"": loose} if number == 0 else {}))
        for number, name in enumerate(names)
    ]


def _frozen(functions: Mapping[str, set[str]]) -> dict[str, frozenset[str]]:
    return {version: frozenset(names) for version, names in functions.items()}


_PAGE = 0x1000
_HEADER_BYTES, _PROGRAM_HEADER_BYTES = 64, 56
# The instruction ud2.
_TRAP = b"\x0f\x0b"


def build(missing: Missing) -> bytes:
    """Return a shared library with functions that end the process.

    The file consists of headers, tables for the loader, one instruction, and the dynamic section. The address of each
    part equals its offset in the file. The dynamic section is on a separate page, because the loader writes to it.
    """
    versions = sorted(filter(None, missing.functions))
    # 1 is the number of the library itself, for functions without a version.
    numbers = {"": 1} | {version: number for number, version in enumerate(versions, start=2)}
    symbols = sorted((name, numbers[version]) for version, names in missing.functions.items() for name in names)
    names = [name for name, _ in symbols]
    texts = _Texts([missing.name, *versions, *names])
    start = _HEADER_BYTES + 4 * _PROGRAM_HEADER_BYTES
    trap = start
    parts = {
        "text": _TRAP.ljust(8, b"\0"),
        "strings": _padded(texts.content),
        "symbols": _symbol_table(texts, names, trap),
        "hash": _padded(_hash_table(names)),
        "versions of symbols": _padded(struct.pack(f"<{len(symbols) + 1}H", 0, *(number for _, number in symbols))),
        "versions": _version_table(texts, [missing.name, *versions]),
    }
    places = dict(zip(parts, accumulate(map(len, parts.values()), initial=start), strict=False))
    end = start + sum(map(len, parts.values()))
    dynamic_at = -(-end // _PAGE) * _PAGE
    dynamic = _dynamic_section(places, texts, missing.name, len(versions) + 1)
    headers = _headers(end, dynamic_at, len(dynamic))
    return (headers + b"".join(parts.values())).ljust(dynamic_at, b"\0") + dynamic


class _Texts:
    """The strings of a library, one after the other."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.content = b"\0"
        self._places: dict[str, int] = {}
        encoded = []
        size = 1
        for text in dict.fromkeys(texts):
            self._places[text] = size
            encoded.append(text.encode() + b"\0")
            size += len(encoded[-1])
        self.content += b"".join(encoded)

    def __getitem__(self, text: str) -> int:
        return self._places[text]


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 8)


def _symbol_table(texts: _Texts, names: Sequence[str], address: int) -> bytes:
    """All functions are at the same address, in section 1.

    A library needs no sections, but section 0 means undefined.
    """
    entries = (struct.pack("<IBBHQQ", texts[name], _GLOBAL_FUNCTION, 0, 1, address, len(_TRAP)) for name in names)
    return bytes(24) + b"".join(entries)


def _hash_table(names: Sequence[str]) -> bytes:
    """Symbol numbers by their hash: the first of each bucket, and for each symbol the next in its bucket."""
    count = len(names) + 1
    buckets, following = [0] * count, [0] * count
    for number, name in enumerate(names, start=1):
        bucket = hash_of(name) % count
        following[number], buckets[bucket] = buckets[bucket], number
    return struct.pack(f"<{2 + 2 * count}I", count, count, *buckets, *following)


def hash_of(name: str) -> int:
    """Return ELF's hash of a name."""
    value = 0
    for byte in name.encode():
        value = (value << 4) + byte
        high = value & 0xF0000000
        value = (value ^ high >> 24) & ~high & 0xFFFFFFFF
    return value


def _version_table(texts: _Texts, names: Sequence[str]) -> bytes:
    """The versions that the library defines. The first one is the library's own name."""
    entries = []
    for number, name in enumerate(names, start=1):
        is_last = number == len(names)
        flags = 1 if number == 1 else 0
        entries.append(struct.pack("<HHHHIII", 1, flags, number, 1, hash_of(name), 20, 0 if is_last else 28))
        entries.append(struct.pack("<II", texts[name], 0))
    return _padded(b"".join(entries))


def _dynamic_section(places: Mapping[str, int], texts: _Texts, name: str, versions: int) -> bytes:
    tags = {
        14: texts[name],
        4: places["hash"],
        5: places["strings"],
        6: places["symbols"],
        10: len(texts.content),
        11: 24,
        0x6FFFFFF0: places["versions of symbols"],
        0x6FFFFFFC: places["versions"],
        0x6FFFFFFD: versions,
        0: 0,
    }
    return b"".join(struct.pack("<qQ", tag, value) for tag, value in tags.items())


def _headers(end: int, dynamic: int, size: int) -> bytes:
    """The headers say that the file is a shared library for x86-64, which parts are loaded, and that no stack needs to
    be executable.
    """
    programs = (
        (1, 5, 0, 0, end, _PAGE),
        (1, 6, dynamic, dynamic, size, _PAGE),
        (2, 6, dynamic, dynamic, size, 8),
        (0x6474E551, 6, 0, 0, 0, 16),
    )
    kind, machine, version = 3, 62, 1
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01",
        *(kind, machine, version, 0, _HEADER_BYTES, 0, 0),
        *(_HEADER_BYTES, _PROGRAM_HEADER_BYTES, len(programs), 64, 0, 0),
    )
    packed = (
        struct.pack("<IIQQQQQQ", kind, flags, offset, address, address, size, size, alignment)
        for kind, flags, offset, address, size, alignment in programs
    )
    return header + b"".join(packed)
