"""Empty modules in place of torch and of other imports that SGLang's command line does not need.

An attribute of such a module can be called, subclassed, or used as a decorator or in a computation; the result is
empty. Only values that SGLang uses while it is imported are real: those of a machine with ROCm.
"""

import abc
import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

# For these names, the real modules are installed.
_REAL = {"arguments", "sglang", "msgspec", "packaging", *sys.stdlib_module_names}
# SGLang looks for this module only to find out whether the machine has a Huawei NPU.
_ABSENT = {"npu"}
_HAS_VALIDATORS = "__class_validators__"


class _EmptyType(abc.ABCMeta):
    """An empty object: it accepts every operation, and each result is empty."""

    is_empty: bool

    def __getattr__(cls, name: str) -> Any:
        return _attribute(cls, name)

    def __call__(cls, *arguments: Any, **options: Any) -> Any:
        if "is_empty" not in cls.__dict__:
            return super().__call__(*arguments, **options)
        is_decorator = len(arguments) == 1 and not options and callable(arguments[0])
        return arguments[0] if is_decorator else cls

    def register(cls, *_arguments: Any, **_options: Any) -> Any:
        return cls

    def __iter__(cls) -> Iterator[Any]:
        return iter(())

    def __len__(cls) -> int:
        return 0

    def __int__(cls) -> int:
        return 0

    def __index__(cls) -> int:
        return 0

    def __float__(cls) -> float:
        return 0.0

    def __contains__(cls, _item: object) -> bool:
        return False

    def __setitem__(cls, _key: object, _value: object) -> None: ...

    def __neg__(cls) -> Any:
        return cls

    def _with(cls, _other: object) -> Any:
        return cls

    __getitem__ = __or__ = __ror__ = __add__ = __sub__ = __mul__ = __rmul__ = __truediv__ = __lt__ = __gt__ = _with
    __le__ = __ge__ = _with


class _Empty:
    """The base of classes whose real base is missing."""

    def __init__(self, *_arguments: Any, **_options: Any) -> None: ...

    def __init_subclass__(cls, **_options: Any) -> None: ...

    def __getattr__(self, name: str) -> Any:
        return _attribute(self, name)


class _EmptyModule(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name in _ABSENT:
            raise AttributeError(name)
        return _attribute(self, name)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds an empty module for every name without a real module."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        is_real = name.partition(".")[0] in _REAL
        return None if is_real else importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _EmptyModule(spec.name)

    def exec_module(self, module: types.ModuleType) -> None: ...


def install() -> None:
    """Install empty modules for all modules that are missing."""
    sys.meta_path.append(_Finder())
    module: Callable[[str], Any] = importlib.import_module
    module("torch").__version__ = "2.9.0"
    module("torch.version").hip = "7.0.0"
    module("torch.version").cuda = None
    module("torch.cuda").is_available = lambda: True
    # The properties of a MI300X, which is gfx942.
    module("torch.cuda").get_device_capability = lambda *_: (9, 4)
    module("torch.library").Library.m.name = "sglang"
    module("triton").runtime.driver.active.get_current_target().backend = "hip"
    module("dill").dumps = lambda _what: b""


def _attribute(owner: Any, name: str) -> Any:
    """Return an empty attribute, the same each time. Names of Python's protocols do not exist."""
    if name.startswith("__") and name != _HAS_VALIDATORS:
        raise AttributeError(name)
    value = _EmptyType(name, (_Empty,), {"is_empty": True})
    setattr(owner, name, value)
    return value
