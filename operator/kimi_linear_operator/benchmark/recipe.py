"""The recipe's published results: every number of its four result tables, and how they were measured.

Source: SGLang's cookbook page for Kimi-Linear, sections 5.1.1, 5.1.2, 5.1.3 and 5.2.1.
"""

from collections.abc import Mapping

from kimi_linear_operator.server.spec.engine import Hardware

HARDWARE: Hardware = "mi300x"
TENSOR_PARALLELISM = 4
VERSION = "v0.5.7"
"""SGLang's release, as in `spec.engine.version`."""

NOTE = (
    "The recipe's numbers were measured on AMD MI300X with four GPUs and SGLang 0.5.7. Other hardware can give "
    "other numbers."
)
"""A note that must be shown with the numbers."""

BACKEND = "sglang"
REQUEST_RATE = "inf"
"""Requests per second of the speed suites: as many as the concurrency allows."""

PUBLISHED: Mapping[str, Mapping[str, float]] = {
    "speed-low": {
        "completed": 10,
        "duration": 23.86,
        "total_input_tokens": 6101,
        "total_input_text_tokens": 6101,
        "total_input_vision_tokens": 0,
        "total_output_tokens": 4220,
        "total_output_tokens_retokenized": 4001,
        "request_throughput": 0.42,
        "input_throughput": 255.70,
        "output_throughput": 176.86,
        "max_output_tokens_per_s": 190.00,
        "max_concurrent_requests": 2,
        "total_throughput": 432.56,
        "concurrency": 1.00,
        "mean_e2e_latency_ms": 2383.93,
        "median_e2e_latency_ms": 1911.63,
        "mean_ttft_ms": 141.33,
        "median_ttft_ms": 126.27,
        "p99_ttft_ms": 294.76,
        "mean_tpot_ms": 5.32,
        "median_tpot_ms": 5.33,
        "p99_tpot_ms": 5.36,
        "mean_itl_ms": 5.33,
        "median_itl_ms": 5.32,
        "p95_itl_ms": 5.44,
        "p99_itl_ms": 5.58,
        "max_itl_ms": 11.46,
    },
    "speed-medium": {
        "completed": 80,
        "duration": 31.38,
        "total_input_tokens": 39668,
        "total_input_text_tokens": 39668,
        "total_input_vision_tokens": 0,
        "total_output_tokens": 40805,
        "total_output_tokens_retokenized": 39667,
        "request_throughput": 2.55,
        "input_throughput": 1264.13,
        "output_throughput": 1300.37,
        "max_output_tokens_per_s": 1801.00,
        "max_concurrent_requests": 21,
        "total_throughput": 2564.50,
        "concurrency": 14.13,
        "mean_e2e_latency_ms": 5543.18,
        "median_e2e_latency_ms": 5755.31,
        "mean_ttft_ms": 175.25,
        "median_ttft_ms": 137.87,
        "p99_ttft_ms": 292.92,
        "mean_tpot_ms": 10.75,
        "median_tpot_ms": 10.87,
        "p99_tpot_ms": 16.74,
        "mean_itl_ms": 10.54,
        "median_itl_ms": 7.95,
        "p95_itl_ms": 13.68,
        "p99_itl_ms": 116.80,
        "max_itl_ms": 299.89,
    },
    "speed-high": {
        "completed": 500,
        "duration": 79.71,
        "total_input_tokens": 249831,
        "total_input_text_tokens": 249831,
        "total_input_vision_tokens": 0,
        "total_output_tokens": 252662,
        "total_output_tokens_retokenized": 228448,
        "request_throughput": 6.27,
        "input_throughput": 3134.20,
        "output_throughput": 3169.72,
        "max_output_tokens_per_s": 6109.00,
        "max_concurrent_requests": 110,
        "total_throughput": 6303.92,
        "concurrency": 94.80,
        "mean_e2e_latency_ms": 15113.92,
        "median_e2e_latency_ms": 13851.52,
        "mean_ttft_ms": 564.46,
        "median_ttft_ms": 226.04,
        "p99_ttft_ms": 2683.14,
        "mean_tpot_ms": 29.63,
        "median_tpot_ms": 31.28,
        "p99_tpot_ms": 38.84,
        "mean_itl_ms": 28.85,
        "median_itl_ms": 16.29,
        "p95_itl_ms": 123.42,
        "p99_itl_ms": 157.80,
        "max_itl_ms": 2481.11,
    },
    "gsm8k": {
        "accuracy": 0.705,
        "invalid": 0.000,
        "latency": 11.855,
        "output_throughput": 3224.982,
    },
}
"""The recipe's numbers by suite and metric, in the order of its tables."""
