"""The causal convolution over each channel of a sequence. It remembers the last values for the next call."""

from itertools import pairwise
from typing import Any

import torch

Tensor = Any


def causal_conv1d_fn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    conv_states: Tensor,
    query_start_loc: Tensor,
    seq_lens_cpu: Any = None,
    cache_indices: Tensor = None,
    has_initial_state: Tensor | None = None,
    activation: str | None = "silu",
    pad_slot_id: int = -1,
    **_: Any,
) -> Tensor:
    """Convolve sequences that lie one after the other.

    Args:
        x: (channels, tokens of all sequences).
        weight: (channels, width).
        bias: (channels), or None.
        conv_states: (slots, channels, at least width - 1); changed.
        query_start_loc: Where each sequence starts, and where the last one ends.
        seq_lens_cpu: Not needed.
        cache_indices: The slot of each sequence; pad_slot_id for none.
        has_initial_state: Whether a sequence continues the one in its slot.
        activation: silu, or None.
        pad_slot_id: The slot of sequences that are left out.
    """
    result = torch.empty_like(x)
    for number, (start, end) in enumerate(pairwise(query_start_loc.tolist())):
        slot = int(cache_indices[number])
        if slot == pad_slot_id or start == end:
            continue
        state = conv_states[slot][:, : weight.shape[1] - 1]
        goes_on = has_initial_state is not None and bool(has_initial_state[number])
        before = state if goes_on else torch.zeros_like(state)
        result[:, start:end], last = _convolve(x[:, start:end], weight, bias, before, activation)
        state.copy_(last)
    return result


def causal_conv1d_update(
    x: Tensor,
    conv_state: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | None = None,
    cache_seqlens: Any = None,
    conv_state_indices: Tensor | None = None,
    pad_slot_id: int = -1,
    **_: Any,
) -> Tensor:
    """Convolve the next token of each sequence. x has the shape (sequences, channels)."""
    result = torch.empty_like(x)
    slots = range(x.shape[0]) if conv_state_indices is None else conv_state_indices.tolist()
    for number, slot in enumerate(slots):
        if slot == pad_slot_id:
            continue
        state = conv_state[slot][:, : weight.shape[1] - 1]
        token, last = _convolve(x[number].unsqueeze(1), weight, bias, state, activation)
        result[number] = token[:, 0]
        state.copy_(last)
    return result


def _convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, before: Tensor, activation: str | None
) -> tuple[Tensor, Tensor]:
    """Return the result for one sequence, (channels, tokens), and its last width - 1 values."""
    values = torch.cat([before.to(x.dtype), x], dim=1)
    kernel = weight.float().unsqueeze(1)
    result = torch.nn.functional.conv1d(
        values.float().unsqueeze(0), kernel, None if bias is None else bias.float(), groups=weight.shape[0]
    )[0]
    if activation == "silu":
        result = torch.nn.functional.silu(result)
    return result.to(x.dtype), values[:, values.shape[1] - before.shape[1] :]
