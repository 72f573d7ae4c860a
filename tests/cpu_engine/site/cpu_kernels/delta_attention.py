"""Kimi's delta attention (KDA): gate, delta rule, and the norm after it.

Tensors of tokens are (tokens, heads, width); a state is (heads, width of values, width of keys).
"""

from itertools import pairwise
from typing import Any

import torch

Tensor = Any

# The same constants as in SGLang's kernels.
_EPSILON = 1e-6


def fused_kda_gate(g: Tensor, A: Tensor, head_k_dim: int, g_bias: Tensor | None = None, **_: Any) -> Tensor:  # noqa: N803
    """Return how much of its state each channel keeps, as a logarithm."""
    return _gate(g, A, A.numel(), head_k_dim, g_bias)


def fused_recurrent_kda(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor = None,
    initial_state: Tensor = None,
    cu_seqlens: Tensor = None,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """Apply the rule to the next token of each sequence, and return the new states, too."""
    states = initial_state.float()
    result = _apply(q[0], k[0], v[0], g[0], beta[0], cu_seqlens, states)
    return result, states.to(initial_state.dtype)


def chunk_kda(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    initial_state: Tensor = None,
    initial_state_indices: Tensor = None,
    cu_seqlens: Tensor = None,
    **_: Any,
) -> Tensor:
    """Apply the rule to whole sequences. Their states, in slots of `initial_state`, are changed."""
    slots = initial_state_indices.long()
    states = initial_state[slots].float()
    result = _apply(q[0], k[0], v[0], g[0], beta[0], cu_seqlens, states)
    initial_state[slots] = states.to(initial_state.dtype)
    return result


def decode(
    _self: Any,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    **options: Tensor,
) -> Tensor:
    """Do the same for newer releases, with the gate and beta of the layers."""
    return _apply_raw(q, k, v, a, b.float().sigmoid(), options)


def extend(
    _self: Any,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    *,
    beta_is_raw: bool = False,
    return_intermediate_states: bool = False,
    **options: Any,
) -> Any:
    """Do the same for whole sequences."""
    result = _apply_raw(q, k, v, g, beta.float().sigmoid() if beta_is_raw else beta, options)
    return (result, None) if return_intermediate_states else result


def gated_norm(self: Any, x: Tensor, g: Tensor, **_: Any) -> Tensor:
    """Return the values divided by their root mean square, times weight and gate."""
    wide = x.float()
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight.float()
    gate = g.float().sigmoid() if self.activation == "sigmoid" else torch.nn.functional.silu(g.float())
    return (wide * gate.view_as(wide)).to(x.dtype)


def _apply_raw(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, options: dict[str, Tensor]) -> Tensor:
    heads, width = v.shape[-2], k.shape[-1]
    all_states = options["ssm_states"]
    slots = options["cache_indices"].long()
    states = all_states[slots].float()
    gate = _gate(g.reshape(-1, heads * width), options["A_log"], heads, width, options["dt_bias"])
    result = _apply(q[0], k[0], v[0], gate, beta.reshape(-1, heads), options["query_start_loc"], states)
    all_states[slots] = states.to(all_states.dtype)
    return result


def _gate(g: Tensor, logarithm: Tensor, heads: int, width: int, bias: Tensor | None) -> Tensor:
    g = g.float() if bias is None else g.float() + bias.float().view(g.shape[-1])
    g = g.reshape(-1, heads, width)
    return -logarithm.float().view(-1, 1).exp() * torch.nn.functional.softplus(g)


def _apply(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, starts: Tensor, states: Tensor) -> Tensor:
    """Apply the rule to sequences that lie one after the other; their states are changed."""
    kind = q.dtype
    q, k, v, g, beta = (x.float() for x in (q, k, v, g, beta))
    q, k, result = _normalized(q) * k.shape[-1] ** -0.5, _normalized(k), torch.empty_like(v)
    for state, (start, end) in zip(states, pairwise(starts.tolist()), strict=False):
        for token in range(start, end):
            result[token] = _step(q[token], k[token], v[token], g[token], beta[token], state)
    return result.to(kind).unsqueeze(0)


def _normalized(x: Tensor) -> Tensor:
    return x * torch.rsqrt((x * x).sum(-1, keepdim=True) + _EPSILON)


def _step(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, state: Tensor) -> Tensor:
    """Let the state forget, correct its value for this key, and query it."""
    state *= g.exp().unsqueeze(1)
    change = (v - (state * k.unsqueeze(1)).sum(-1)) * beta.unsqueeze(-1)
    state += change.unsqueeze(-1) * k.unsqueeze(1)
    return (state * q.unsqueeze(1)).sum(-1)
