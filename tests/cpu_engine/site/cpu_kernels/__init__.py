"""The kernels of SGLang that Kimi-Linear needs, in PyTorch, with the names and arguments that SGLang calls them by."""
