"""Compares the kernels for a CPU with SGLang's own kernels on small random inputs.

Triton's interpreter runs SGLang's kernels.

It runs in the environment of SGLang 0.5.7, with TRITON_INTERPRET=1, and prints the relative error of each kernel as
JSON.
"""

import importlib
import json
import sys
from collections.abc import Callable
from typing import Any

import torch

import sitecustomize

# SGLang's kernels are not replaced in this process.
sitecustomize.CHANGES.clear()

import triton  # noqa: E402
import triton.language  # noqa: E402
from sglang.srt.layers.attention.fla import kda as theirs  # noqa: E402
from sglang.srt.layers.attention.mamba import causal_conv1d_triton as their_convolution  # noqa: E402
from triton.runtime import interpreter  # noqa: E402

from cpu_kernels import convolution as our_convolution  # noqa: E402
from cpu_kernels import delta_attention as ours  # noqa: E402

Tensor = Any
HEADS, WIDTH, TOKENS = 2, 32, 5


def error(ours: Tensor, theirs: Tensor) -> float:
    """Return the relative error."""
    return float((ours.float() - theirs.float()).norm() / theirs.float().norm())


def interpret() -> None:
    """Let the interpreter run functions that exist only for GPUs: fast exponentials, and self-tuning kernels."""
    for name in ("kda", "fused_recurrent", "op"):
        module = importlib.import_module(f"sglang.srt.layers.attention.fla.{name}")
        for function in ("exp", "exp2", "log", "log2"):
            if hasattr(module, function):
                setattr(module, function, _looked_up_late(function))
    theirs.kda_gate_fwd_kernel = _Untuned(theirs.kda_gate_fwd_kernel)
    interpreter._patch_lang_tensor = _with_index(interpreter._patch_lang_tensor)


def _with_index(patch: Callable[[Any], None]) -> Callable[[Any], None]:
    """Let a tensor with one value be an index. Newer versions of numpy convert only arrays without dimensions."""

    def patch_more(tensor: Any) -> None:
        patch(tensor)
        tensor.__index__ = lambda self: int(self.handle.data.item())

    return patch_more


def _looked_up_late(name: str) -> Callable[[Any], Any]:
    """Return a function of Triton's language. While a kernel runs, the interpreter replaces it by another function."""
    return lambda value: getattr(triton.language, name)(value)


class _Untuned:
    """A kernel with the first of its possible configurations."""

    def __init__(self, tuner: Any) -> None:
        self._kernel = tuner.fn
        self._options = tuner.configs[0].kwargs

    def __getitem__(self, grid: Any) -> Callable[..., Any]:
        placed = (lambda given: grid({**self._options, **given})) if callable(grid) else grid
        return lambda *arguments, **options: self._kernel[placed](*arguments, **{**options, **self._options})


def gate() -> float:
    """Compare the gate."""
    values, bias = torch.randn(TOKENS, HEADS * WIDTH), torch.randn(HEADS * WIDTH)
    logarithm = torch.randn(1, 1, HEADS, 1)
    arguments = (values, logarithm, WIDTH)
    return error(ours.fused_kda_gate(*arguments, g_bias=bias), theirs.fused_kda_gate(*arguments, g_bias=bias))


def delta_rule() -> float:
    """Compare the delta rule over the tokens of one sequence."""
    q, k, v = (torch.randn(1, TOKENS, HEADS, WIDTH) for _ in range(3))
    given = {"q": q, "k": k, "v": v, "g": -torch.rand(1, TOKENS, HEADS, WIDTH), "beta": torch.rand(1, TOKENS, HEADS)}
    empty = torch.zeros(1, HEADS, WIDTH, WIDTH)
    given |= {"cu_seqlens": torch.tensor([0, TOKENS], dtype=torch.int32)}
    mine, _ = ours.fused_recurrent_kda(**given, initial_state=empty.clone())
    own, _ = theirs.fused_recurrent_kda(**given, initial_state=empty.clone(), use_qk_l2norm_in_kernel=True)
    return error(mine, own)


def convolutions() -> dict[str, float]:
    """Compare the convolution over two sequences, then over their next tokens, and the remembered values."""
    channels, width = HEADS * WIDTH, 4
    weight = torch.randn(channels, width)
    states = torch.randn(4, channels, width - 1)
    our_states, their_states = states.clone(), states.clone()
    slots = torch.tensor([2, 1], dtype=torch.int32)
    goes_on = torch.tensor([True, False])
    starts = torch.tensor([0, 4, 9], dtype=torch.int32)
    x, token = torch.randn(channels, 9), torch.randn(2, channels)
    mine, own = (
        module.causal_conv1d_fn(x, weight, None, known, starts, [4, 5], slots, goes_on)
        for module, known in ((our_convolution, our_states), (their_convolution, their_states))
    )
    found = {"convolution": error(mine, own), "remembered values": error(our_states, their_states)}
    mine, own = (
        module.causal_conv1d_update(token, known, weight, None, "silu", conv_state_indices=slots)
        for module, known in ((our_convolution, our_states), (their_convolution, their_states))
    )
    return found | {"next token": error(mine, own), "remembered token": error(our_states, their_states)}


if __name__ == "__main__":
    torch.manual_seed(0)
    interpret()
    json.dump({"gate": gate(), "delta rule": delta_rule(), **convolutions()}, sys.stdout)
