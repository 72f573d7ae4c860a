"""A Kubernetes operator that serves Kimi-Linear with SGLang on AMD Instinct GPUs."""

__version__ = "0.1.0"
