"""Command lines of the clients.

They are SGLang's bench_serving for speed, its few_shot_gsm8k for accuracy, and our client for tool calls.

The recipe's suites use the recipe's command lines. Custom suites use the flags of SGLang 0.5.7. `runner.py` adds the
server's address and the output file in the pod.
"""

from kimi_linear_operator.benchmark import load
from kimi_linear_operator.benchmark.spec import Accuracy, BenchmarkSpec, Speed, Suite, ToolCalls

# Flags of bench_serving that have a field, and flags that the runner sets. --header is refused because it could contain
# an API key.
OWNED_FLAGS = (
    "apply-chat-template",
    "backend",
    "base-url",
    "dataset-name",
    "dataset-path",
    "disable-ignore-eos",
    "disable-stream",
    "disable-tqdm",
    "flush-cache",
    "header",
    "host",
    "max-concurrency",
    "model",
    "num-prompts",
    "output-details",
    "output-file",
    "port",
    "random-input-len",
    "random-output-len",
    "random-range-ratio",
    "request-rate",
    "seed",
    "served-model-name",
    "sharegpt-context-len",
    "sharegpt-output-len",
    "tokenize-prompt",
    "tokenizer",
    "warmup-requests",
)

CONTAINER = "client"
API_KEY_VARIABLE = "OPENAI_API_KEY"
DATASET_FOLDER = "/datasets"
PROGRAM_FOLDER = "/opt/kimi-linear"
TOOL_CALLS = "tool_calls.py"


def build_command(spec: BenchmarkSpec, suite: Suite, model: str) -> list[str]:
    """Return a suite's command line, without the arguments that the runner adds.

    Args:
        spec: The benchmark's spec.
        suite: One of its suites.
        model: The server's model.
    """
    match load.of(suite):
        case Speed() as speed:
            return _speed_command(spec, speed, model)
        case Accuracy() as accuracy:
            return _accuracy_command(spec, accuracy)
        case ToolCalls() as calls:
            return ["python3", f"{PROGRAM_FOLDER}/{TOOL_CALLS}", *_words({"--requests": calls.num_requests})]


def _speed_command(spec: BenchmarkSpec, speed: Speed, model: str) -> list[str]:
    data = spec.datasets.share_gpt
    options = {
        "--backend": "sglang",
        "--model": model,
        "--tokenizer": spec.client.tokenizer,
        "--dataset-name": speed.dataset_name,
        "--dataset-path": f"{DATASET_FOLDER}/sharegpt/{data.path}" if data else None,
        "--random-input-len": speed.random_input_len,
        "--random-output-len": speed.random_output_len,
        "--random-range-ratio": speed.random_range_ratio,
        "--sharegpt-output-len": speed.sharegpt_output_len,
        "--sharegpt-context-len": speed.sharegpt_context_len,
        "--num-prompts": speed.num_prompts,
        "--max-concurrency": speed.max_concurrency,
        "--request-rate": "inf" if speed.request_rate is None else speed.request_rate,
        "--seed": speed.seed,
        "--warmup-requests": speed.warmup_requests,
    }
    switches = {
        "--flush-cache": speed.flush_cache,
        "--apply-chat-template": speed.apply_chat_template,
        "--disable-ignore-eos": speed.disable_ignore_eos,
        "--disable-stream": speed.disable_stream,
        "--tokenize-prompt": speed.tokenize_prompt,
    }
    return [
        "python3",
        "-m",
        "sglang.bench_serving",
        *_words(options),
        *(flag for flag, is_set in switches.items() if is_set),
        *speed.extra_args,
    ]


def _accuracy_command(spec: BenchmarkSpec, accuracy: Accuracy) -> list[str]:
    data = spec.datasets.gsm8k
    options = {
        "--num-questions": accuracy.num_questions,
        "--num-shots": accuracy.num_shots,
        "--max-new-tokens": accuracy.max_new_tokens,
        "--parallel": accuracy.parallel,
        "--temperature": accuracy.temperature,
        "--data-path": f"{DATASET_FOLDER}/gsm8k/{data.path}" if data else None,
    }
    return ["python3", "-m", "sglang.test.few_shot_gsm8k", *_words(options)]


def _words(options: dict[str, str | int | float | None]) -> list[str]:
    """Return flags and values as words of a command line, without options that are None."""
    return [word for flag, value in options.items() if value is not None for word in (flag, str(value))]
