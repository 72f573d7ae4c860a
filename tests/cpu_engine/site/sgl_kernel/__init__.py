"""A replacement for SGLang's kernels, which are 536 MB for CUDA. Every import works, but no function can be called."""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch

__version__ = "0.0.0"


class Absent(type):
    """A stub with a name and attributes; a call of it fails."""

    def __call__(cls, *_arguments: Any, **_options: Any) -> Any:
        raise NotImplementedError(f"sgl_kernel.{cls.__name__} is not there")

    def __getattr__(cls, name: str) -> Any:
        return _absent(cls.__name__, name)


class _Module(ModuleType):
    def __getattr__(self, name: str) -> Any:
        value = _absent(self.__name__.partition(".")[2], name)
        setattr(self, name, value)
        return value


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds every module of the package."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        is_ours = name.startswith(f"{__name__}.")
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if is_ours else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: ModuleType) -> None: ...


class _Operations:
    """A replacement for torch.ops.sgl_kernel.

    By missing names, SGLang sees that its kernels for CPUs with AMX do not exist.
    """

    def __getattr__(self, name: str) -> Any:
        if not name.endswith("_cpu"):
            raise AttributeError(name)
        return _absent("ops", name)


def _absent(owner: str, name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return Absent(f"{owner}.{name}".strip("."), (), {})


sys.meta_path.append(_Finder())
sys.modules[__name__].__class__ = _Module
torch.ops.sgl_kernel = _Operations()
