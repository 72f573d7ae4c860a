"""Installs `cpu_kernels` in each process of SGLang. Python imports this module, because its folder is on PYTHONPATH.

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
    """KimiLinearModel creates a stream for CUDA graphs, even without a GPU."""
    torch.cuda.Stream = type("Stream", (), {"__init__": lambda *_arguments, **_options: None})


def _convolution(module: Any) -> None:
    from cpu_kernels import convolution

    module.causal_conv1d_fn = convolution.causal_conv1d_fn
    module.causal_conv1d_update = convolution.causal_conv1d_update


def _delta_attention_of_0_5_7(module: Any) -> None:
    from cpu_kernels import delta_attention

    module.fused_kda_gate = delta_attention.fused_kda_gate
    module.fused_recurrent_kda = delta_attention.fused_recurrent_kda
    module.chunk_kda = delta_attention.chunk_kda
    _gated_norm(module)


def _delta_attention(module: Any) -> None:
    from cpu_kernels import delta_attention

    module.TritonKDAKernel.decode = delta_attention.decode
    module.TritonKDAKernel.extend = delta_attention.extend


def _gated_norm(module: Any) -> None:
    from cpu_kernels import delta_attention

    module.FusedRMSNormGated.forward = delta_attention.gated_norm


def _convolution_of_a_token(module: Any) -> None:
    """On a CPU, the newest release imports this function from sgl_kernel."""
    from cpu_kernels import convolution

    module.causal_conv1d_update = convolution.causal_conv1d_update


def _latent_cache(module: Any) -> None:
    from cpu_kernels import latent_attention

    module.set_mla_kv_buffer_triton = latent_attention.write_cache
    module.get_mla_kv_buffer_triton = latent_attention.read_cache


def _compressed_keys(module: Any) -> None:
    """PyTorch's attention finds compressed keys in the cache, so compute with these keys, as decoding does."""
    if hasattr(module, "AttnForwardMethod"):
        method = module.AttnForwardMethod.MLA
        module.AttentionBackendRegistry.register("torch_native", lambda _attention, _batch: method)


def _grammar(module: Any) -> None:
    """Release 0.5.7 uses a function for CPUs that does not exist. Without it, a chat with tools ends the server."""
    import xgrammar

    def apply(_grammar: Any, logits: Any, mask: Any) -> None:
        xgrammar.apply_token_bitmask_inplace(logits, mask)

    module.XGrammarGrammar.apply_vocab_mask_cpu = apply


# The first group is common, the second of 0.5.7, the third of newer releases.
CHANGES: dict[str, Change] = {
    "torch": _no_streams,
    "sglang.srt.constrained.xgrammar_backend": _grammar,
    "sglang.srt.models.deepseek_v2": _compressed_keys,
    "sglang.srt.mem_cache.memory_pool": _latent_cache,
    "sglang.srt.layers.attention.fla.kda": _delta_attention_of_0_5_7,
    "sglang.srt.layers.attention.mamba.causal_conv1d_triton": _convolution,
    "sglang.srt.models.deepseek_common.attention_backend_handler": _compressed_keys,
    "sglang.kernels.ops.attention.fla.fused_norm_gate": _gated_norm,
    "sglang.kernels.ops.mamba.causal_conv1d_triton": _convolution,
    "sglang.srt.layers.attention.linear.kda_backend": _convolution_of_a_token,
    "sglang.srt.layers.attention.linear.kernels.kda_triton": _delta_attention,
}


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules to change like Python does, and lets the loader change them."""

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
