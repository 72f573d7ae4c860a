"""A model that SGLang loads as Kimi-Linear.

It has the same layers and kind of tokenizer, with 6 million random weights.
"""

import array
import base64
import json
import math
import random
import shutil
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from stand_in.data import MODEL, snapshot

_BYTES = 256
# The number of special tokens of Kimi's tokenizer above its base vocabulary. Our base vocabulary has one token per
# byte.
_SPECIAL_TOKENS = 256
_VOCABULARY = _BYTES + _SPECIAL_TOKENS
# The special tokens with a name, by their position above the base vocabulary. Source: tokenizer_config.json of
# moonshotai/Kimi-Linear-48B-A3B-Instruct.
SPECIAL = {
    0: "[BOS]",
    1: "[EOS]",
    2: "<|im_end|>",
    3: "<|im_user|>",
    4: "<|im_assistant|>",
    10: "<|im_system|>",
    11: "<|tool_calls_section_begin|>",
    12: "<|tool_calls_section_end|>",
    13: "<|tool_call_begin|>",
    14: "<|tool_call_argument_begin|>",
    15: "<|tool_call_end|>",
    17: "<|im_middle|>",
    254: "[UNK]",
    255: "[PAD]",
}
_TEMPLATE = (
    "{%- if tools -%}<|im_system|>tool_declare<|im_middle|>{{ tools | tojson }}<|im_end|>{%- endif -%}"
    "{%- for message in messages -%}"
    "{%- if message['role'] in ('user', 'assistant') -%}<|im_{{ message['role'] }}|>{{ message['role'] }}<|im_middle|>"
    "{%- else -%}<|im_system|>{{ message['role'] }}<|im_middle|>{%- endif -%}"
    "{{ message['content'] }}<|im_end|>{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|im_assistant|>assistant<|im_middle|>{%- endif -%}"
)
_LAYERS = 4
_HEADS = 4
_HIDDEN = 256
_EXPERTS = 8
_EXPERT_WIDTH = 128
_KDA_WIDTH = 128
_CONVOLUTION = 4
# As published: config.json of the model. Attention needs heads of these sizes.
_LATENT, _NOPE, _ROPE, _VALUE = 512, 128, 64, 128
_LONGEST = 1048576
# Numbered from 1, as in config.json: every fourth layer has latent attention (MLA), the others delta attention (KDA).
_MLA_LAYERS = [layer for layer in range(1, _LAYERS + 1) if layer % 4 == 0]
_KDA_LAYERS = [layer for layer in range(1, _LAYERS + 1) if layer % 4]

Shape = tuple[int, ...]


def configuration() -> dict[str, Any]:
    """Return config.json: the published keys, and smaller numbers."""
    return {
        "architectures": ["KimiLinearForCausalLM"],
        "model_type": "kimi_linear",
        "dtype": "bfloat16",
        "torch_dtype": "bfloat16",
        "vocab_size": _VOCABULARY,
        "bos_token_id": _BYTES,
        "eos_token_id": _BYTES + 2,
        "pad_token_id": _VOCABULARY - 1,
        "model_max_length": _LONGEST,
        "num_hidden_layers": _LAYERS,
        "hidden_size": _HIDDEN,
        "hidden_act": "silu",
        "intermediate_size": _HIDDEN,
        "initializer_range": 0.02,
        "rms_norm_eps": 1e-05,
        "tie_word_embeddings": False,
        "use_cache": True,
        **_attention(),
        **_experts(),
    }


def _attention() -> dict[str, Any]:
    return {
        "num_attention_heads": _HEADS,
        "num_key_value_heads": _HEADS,
        "head_dim": _HIDDEN // _HEADS,
        "linear_attn_config": {
            "full_attn_layers": _MLA_LAYERS,
            "kda_layers": _KDA_LAYERS,
            "head_dim": _KDA_WIDTH,
            "num_heads": _HEADS,
            "short_conv_kernel_size": _CONVOLUTION,
        },
        "mla_use_nope": True,
        "q_lora_rank": None,
        "kv_lora_rank": _LATENT,
        "qk_nope_head_dim": _NOPE,
        "qk_rope_head_dim": _ROPE,
        "v_head_dim": _VALUE,
        "rope_scaling": None,
        "rope_theta": 10000.0,
    }


def _experts() -> dict[str, Any]:
    return {
        "first_k_dense_replace": 1,
        "moe_intermediate_size": _EXPERT_WIDTH,
        "moe_layer_freq": 1,
        "moe_renormalize": True,
        "moe_router_activation_func": "sigmoid",
        "num_experts": _EXPERTS,
        "num_experts_per_token": 2,
        "num_expert_group": 1,
        "num_nextn_predict_layers": 0,
        "num_shared_experts": 1,
        "routed_scaling_factor": 2.446,
        "topk_group": 1,
        "use_grouped_topk": True,
    }


def tensors() -> Iterator[tuple[str, Shape]]:
    """Yield names and shapes of the weights, as in the published checkpoint."""
    yield "model.embed_tokens.weight", (_VOCABULARY, _HIDDEN)
    for layer in range(_LAYERS):
        here = f"model.layers.{layer}"
        yield f"{here}.input_layernorm.weight", (_HIDDEN,)
        yield f"{here}.post_attention_layernorm.weight", (_HIDDEN,)
        attention = _mla_tensors if layer + 1 in _MLA_LAYERS else _kda_tensors
        yield from attention(f"{here}.self_attn")
        if layer:
            yield from _expert_tensors(f"{here}.block_sparse_moe")
        else:
            yield from _mlp_tensors(f"{here}.mlp", _HIDDEN, ("gate_proj", "up_proj", "down_proj"))
    yield "model.norm.weight", (_HIDDEN,)
    yield "lm_head.weight", (_VOCABULARY, _HIDDEN)


def _kda_tensors(here: str) -> Iterator[tuple[str, Shape]]:
    width = _HEADS * _KDA_WIDTH
    for name in "qkv":
        yield f"{here}.{name}_proj.weight", (width, _HIDDEN)
        yield f"{here}.{name}_conv1d.weight", (width, 1, _CONVOLUTION)
    for name in "fg":
        yield f"{here}.{name}_a_proj.weight", (_KDA_WIDTH, _HIDDEN)
        yield f"{here}.{name}_b_proj.weight", (width, _KDA_WIDTH)
    yield f"{here}.b_proj.weight", (_HEADS, _HIDDEN)
    yield f"{here}.A_log", (1, 1, _HEADS, 1)
    yield f"{here}.dt_bias", (width,)
    yield f"{here}.o_norm.weight", (_KDA_WIDTH,)
    yield f"{here}.o_proj.weight", (_HIDDEN, width)


def _mla_tensors(here: str) -> Iterator[tuple[str, Shape]]:
    yield f"{here}.q_proj.weight", (_HEADS * (_NOPE + _ROPE), _HIDDEN)
    yield f"{here}.kv_a_proj_with_mqa.weight", (_LATENT + _ROPE, _HIDDEN)
    yield f"{here}.kv_a_layernorm.weight", (_LATENT,)
    yield f"{here}.kv_b_proj.weight", (_HEADS * (_NOPE + _VALUE), _LATENT)
    yield f"{here}.o_proj.weight", (_HIDDEN, _HEADS * _VALUE)


def _expert_tensors(here: str) -> Iterator[tuple[str, Shape]]:
    yield f"{here}.gate.weight", (_EXPERTS, _HIDDEN)
    yield f"{here}.gate.e_score_correction_bias", (_EXPERTS,)
    yield from _mlp_tensors(f"{here}.shared_experts", _EXPERT_WIDTH, ("gate_proj", "up_proj", "down_proj"))
    for number in range(_EXPERTS):
        yield from _mlp_tensors(f"{here}.experts.{number}", _EXPERT_WIDTH, ("w1", "w3", "w2"))


def _mlp_tensors(here: str, width: int, names: tuple[str, str, str]) -> Iterator[tuple[str, Shape]]:
    gate, up, down = names
    yield f"{here}.{gate}.weight", (width, _HIDDEN)
    yield f"{here}.{up}.weight", (width, _HIDDEN)
    yield f"{here}.{down}.weight", (_HIDDEN, width)


def write(folder: Path) -> None:
    """Write the model as a cache of the hub, under the name of the real model, below a folder for HF_HOME."""
    model = snapshot(folder / "hub", "models", MODEL)
    _write_json(model / "config.json", configuration())
    _write_json(model / "generation_config.json", {"max_length": _LONGEST, "eos_token_id": _BYTES + 2})
    _write_tokenizer(model)
    _write_weights(model / "model.safetensors", tensors())


def _write_tokenizer(model: Path) -> None:
    tokens = (f"{base64.b64encode(bytes([number])).decode()} {number}\n" for number in range(_BYTES))
    (model / "tiktoken.model").write_text("".join(tokens))
    shutil.copy(Path(__file__).with_name("tokenization_kimi.py"), model)
    named = {"bos_token": "[BOS]", "eos_token": "[EOS]", "unk_token": "[UNK]", "pad_token": "[PAD]"}
    config = {
        "tokenizer_class": "TikTokenTokenizer",
        "auto_map": {"AutoTokenizer": ["tokenization_kimi.TikTokenTokenizer", None]},
        "additional_special_tokens": [name for name in SPECIAL.values() if name not in named.values()],
        "special_places": SPECIAL,
        "special_count": _SPECIAL_TOKENS,
        "model_max_length": _LONGEST,
        "clean_up_tokenization_spaces": False,
        "chat_template": _TEMPLATE,
    }
    _write_json(model / "tokenizer_config.json", named | config)


def _write_weights(file: Path, shapes: Iterable[tuple[str, Shape]]) -> None:
    """Write random weights, the same every time, in the format of safetensors."""
    source = random.Random(1)  # noqa: S311 - weights, no secrets
    header: dict[str, Any] = {}
    parts = []
    place = 0
    for name, shape in shapes:
        parts.append(_weights(name, math.prod(shape), source))
        end = place + len(parts[-1])
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [place, end]}
        place = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as opened:
        opened.write(struct.pack("<Q", len(text)) + text)
        opened.writelines(parts)


def _weights(name: str, count: int, source: random.Random) -> bytes:
    """Return this many bfloat16 numbers. For a norm they are 1.0, otherwise 0.03 to 0.12 with either sign."""
    if name.endswith("norm.weight"):
        return array.array("H", [0x3F80] * count).tobytes()
    values = array.array("H", source.randbytes(2 * count))
    return array.array("H", [(value & 0x807F) | (0x3D00 + (value >> 1 & 0x80)) for value in values]).tobytes()


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n")
