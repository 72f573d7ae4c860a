"""SGLang's own server on a CPU: the recipe's release and the newest one, with a tiny Kimi-Linear of random weights.

HTTP server, scheduler, detokenizer, tokenizer, loader, metrics and command line are SGLang's. These parts are replaced:

- NVIDIA's libraries, against which PyPI's torch is linked. They are 3 GB of wheels and are not called without a GPU.
  `cuda_libraries.py` replaces them by libraries whose functions end the process.
- The kernels of Kimi's delta attention (KDA), because Triton needs a GPU. `site/cpu_kernels` replaces them by PyTorch.
  The causal convolution, the gate and the delta rule compute the same as SGLang's own kernels in Triton's interpreter
  (`tests/engine/test_kernels.py`). Two kernels are not compared: the kernel for whole prompts, which is replaced by the
  same rule token by token, and the norm with a gate.
- The kernels that write and read the cache of latent attention (MLA). They are not compared, because they only copy.
- Attention over a prompt. PyTorch's attention would find compressed keys in the cache, so SGLang's path for decoding
  replaces it. It is not compared.
- The kernel that keeps an answer within a grammar, which SGLang uses for answers that may call tools. xgrammar's own
  kernel for CPUs replaces it, because 0.5.7 does not call that kernel.
- The packages `sgl_kernel` and `vllm`, which are for CUDA, and `datasets`, which the clients need for other data.
  Modules in `site` replace them. SGLang can import these modules; a call of a missing function is an error.
- The model: 48 billion weights and 163,840 tokens. `checkpoint.py` replaces it by a model with the same layers and the
  same kind of tokenizer, with 6 million random weights and 512 tokens.

So nothing here says how fast Kimi-Linear is, how much memory of a GPU it takes, or what it answers.
"""
