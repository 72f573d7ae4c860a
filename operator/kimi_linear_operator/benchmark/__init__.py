"""Benchmarks: they run SGLang's own clients against a server, and judge the numbers."""
