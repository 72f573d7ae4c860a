"""A replacement for vLLM.

On a CPU without AMX, SGLang imports layers from vLLM, but SGLang itself contains the same layers in PyTorch.
"""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

_PARTS = ("vllm._custom_ops", "vllm.model_executor")


def _refuse(*_arguments: Any, **_options: Any) -> Any:
    raise NotImplementedError("vllm is not there")


class _Module(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        # sglang.srt.layers.activation imports from vllm.model_executor.layers.activation the same functions that it
        # defines.
        own = sys.modules.get(f"sglang.srt.layers.{self.__name__.rpartition('.')[2]}")
        return getattr(own, name, _refuse)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the modules that SGLang imports."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        is_wanted = name in _PARTS or name.startswith("vllm.model_executor.layers")
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if is_wanted else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: ModuleType) -> None: ...


sys.meta_path.append(_Finder())
