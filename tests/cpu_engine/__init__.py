"""SGLang's own server on a CPU: the recipe's release and the newest one, with a tiny Kimi-Linear of random weights.

HTTP server, scheduler, detokenizer, tokenizer, loader, metrics and command line are SGLang's. These parts are replaced:

- NVIDIA's libraries, which PyPI's torch is linked against: 3 GB of wheels that are not called without a GPU. By
  `cuda_libraries.py`: libraries whose functions end the process.
- The kernels of Kimi's delta attention (KDA), because Triton needs a GPU. By PyTorch, in `site/cpu_kernels`. The causal
  convolution, the gate and the delta rule compute the same as SGLang's own in Triton's interpreter
  (`tests/engine/test_kernels.py`). Not compared: the kernel for whole prompts, which is replaced by the same rule token
  by token, and the norm with a gate.
- The kernels that write and read the cache of latent attention (MLA). Not compared, because they only copy.
- Attention over a prompt. PyTorch's would find compressed keys in the cache, so it takes SGLang's path for decoding.
  Not compared.
- The kernel that keeps an answer within a grammar, as SGLang does with answers that may call tools. By xgrammar's own
  for CPUs, which 0.5.7 does not call.
- The packages `sgl_kernel` and `vllm`, which are for CUDA, and `datasets`, which the clients need for other data. By
  modules in `site`: SGLang imports them, and an error tells if it calls what is not there.
- The model: 48 billion weights and 163,840 tokens. By `checkpoint.py`: the same layers and kind of tokenizer, 6 million
  random weights, 512 tokens.

So nothing here says how fast Kimi-Linear is, how much memory of a GPU it takes, or what it answers.
"""
