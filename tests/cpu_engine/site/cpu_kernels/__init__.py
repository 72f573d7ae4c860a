"""The kernels of SGLang that Kimi-Linear needs, in PyTorch, with SGLang's names and arguments."""
