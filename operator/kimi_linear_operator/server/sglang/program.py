"""How SGLang's log tells why SGLang failed. The logs of its benchmark clients have the same form."""

import re

from kimi_linear_operator.kubernetes.pod_template import ENGINE_CONTAINER
from kimi_linear_operator.kubernetes.program import Program

PREFLIGHT = "preflight"
"""The name of the init container that checks a server's pod (pod_check.py)."""

SGLANG = Program(
    container=ENGINE_CONTAINER,
    check=PREFLIGHT,
    # The errors of PyTorch (no GPU memory left at runtime) and SGLang (model_runner.py: no memory left after the
    # weights).
    memory_remedies={
        re.compile("(HIP|CUDA) out of memory"): "lower engine.memoryFractionStatic or raise tensorParallelism",
        re.compile("Not enough memory"): "raise engine.memoryFractionStatic or tensorParallelism",
    },
    startup_limit="spec.startup.timeoutSeconds",
    startup_remedy="keep the weights and compiled kernels on a volume (podTemplate, volume cache)",
    # Aborts of ROCm.
    errors=re.compile(r"Memory access fault by GPU|HSA_STATUS_ERROR|hipError[A-Z]\w+|HIP error"),
    # For example, the watchdog of SGLang 0.5.23 logs which process has ended, but not why.
    vague_errors=re.compile(r"Subprocess \S+ \(pid=\d+\) crashed|watchdog timeout"),
    # RCCL and Gloo report that another process has ended. SGLang tries three times to read hf_quant_config.json from
    # the hub, and logs a traceback each time.
    consequences=re.compile(
        r"[Cc]onnection (?:closed|reset|was closed) by (?:remote )?peer|remote process exited"
        r"|OfflineModeIsEnabled|hf_quant_config|retry\(\) failed once"
    ),
    # The main process logs this when a child process has failed (http_server.py). The rest of the log is about its
    # shutdown.
    shutdown=re.compile("Received sigquit|SIGQUIT received", re.IGNORECASE),
    # PyTorch's advice.
    noise=re.compile(
        r"(?:HIP|CUDA) kernel errors might be|For debugging consider passing|Compile with `TORCH_USE_|"
        r"Device-side assertions|destroy_process_group\(\) was not called|^Exception raised from|^frame #"
    ),
)
