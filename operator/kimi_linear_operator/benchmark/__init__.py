"""Benchmarks: running SGLang's own client against a server, and what its numbers mean."""
