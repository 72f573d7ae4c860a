"""The cache of latent attention (MLA): a row for each token, of compressed keys and values, and of positions."""

from typing import Any

import torch

Tensor = Any


def write_cache(kv_buffer: Tensor, loc: Tensor, cache_k_nope: Tensor, cache_k_rope: Tensor) -> None:
    """Write the rows of tokens at these places."""
    rows = torch.cat([cache_k_nope, cache_k_rope], dim=-1).view(loc.shape[0], 1, -1)
    kv_buffer[loc.long()] = rows.to(kv_buffer.dtype)


def read_cache(kv_buffer: Tensor, loc: Tensor, cache_k_nope: Tensor, cache_k_rope: Tensor) -> None:
    """Read the rows at these places into the two tensors."""
    rows, width = kv_buffer[loc.long()], cache_k_nope.shape[-1]
    cache_k_nope.copy_(rows[..., :width].view_as(cache_k_nope))
    cache_k_rope.copy_(rows[..., width:].view_as(cache_k_rope))
