"""Python imports this in each process of SGLang, because its folder is on PYTHONPATH: it puts `cpu_kernels` in place.

A module of SGLang that has kernels for GPUs is changed right after it was imported.
"""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

Change = Callable[[Any], None]


def _no_streams(torch: Any) -> None:
    """KimiLinearModel makes a stream for CUDA graphs, whether or not there is a GPU."""
    torch.cuda.Stream = type("Stream", (), {"__init__": lambda *_arguments, **_options: None})


def _convolution(module: Any) -> None:
    from cpu_kernels import convolution

    module.causal_conv1d_fn = convolution.causal_conv1d_fn
    module.causal_conv1d_update = convolution.causal_conv1d_update


def _delta_attention(module: Any) -> None:
    from cpu_kernels import delta_attention

    module.fused_kda_gate = delta_attention.fused_kda_gate
    module.fused_recurrent_kda = delta_attention.fused_recurrent_kda
    module.chunk_kda = delta_attention.chunk_kda
    _gated_norm(module)


def _gated_norm(module: Any) -> None:
    from cpu_kernels import delta_attention

    module.FusedRMSNormGated.forward = delta_attention.gated_norm


def _latent_cache(module: Any) -> None:
    from cpu_kernels import latent_attention

    module.set_mla_kv_buffer_triton = latent_attention.write_cache
    module.get_mla_kv_buffer_triton = latent_attention.read_cache


def _compressed_keys(module: Any) -> None:
    """PyTorch's attention finds compressed keys in the cache: compute with those, as decoding does."""
    if hasattr(module, "AttnForwardMethod"):
        method = module.AttnForwardMethod.MLA
        module.AttentionBackendRegistry.register("torch_native", lambda _attention, _batch: method)


CHANGES: dict[str, Change] = {
    "torch": _no_streams,
    "sglang.srt.models.deepseek_v2": _compressed_keys,
    "sglang.srt.mem_cache.memory_pool": _latent_cache,
    "sglang.srt.layers.attention.fla.kda": _delta_attention,
    "sglang.srt.layers.attention.mamba.causal_conv1d_triton": _convolution,
}


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules that are to be changed, as Python would, and has them changed."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        spec = importlib.machinery.PathFinder.find_spec(name, path, target) if name in CHANGES else None
        if spec and spec.loader:
            spec.loader = _Loader(spec.loader, CHANGES[name])
        return spec


class _Loader(importlib.abc.Loader):
    """Loads a module and changes it."""

    def __init__(self, loader: importlib.abc.Loader, change: Change) -> None:
        self._loader = loader
        self._change = change

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._change(module)


sys.meta_path.insert(0, _Finder())
