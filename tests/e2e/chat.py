"""Talks to a server with OpenAI's own client, and prints the answers as JSON: python chat.py URL [--tools].

It is run on the node, where the names of Services are known.
"""

import json
import subprocess
import sys
from typing import Any

from openai import OpenAI

from pod_cluster import PodCluster

_TOOLS = "--tools"
_TOOL: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
    },
}
_QUESTION: Any = {"role": "user", "content": "Are you there?"}
_LONGEST = 64


def talk(cluster: PodCluster, url: str, *, with_tools: bool) -> dict[str, Any]:
    """Return a server's answers, one not streamed and one streamed.

    With a tool, also return its call and the next answer.
    """
    path = f"PYTHONPATH={':'.join(sys.path)}"
    command = cluster.enter("env", path, sys.executable, __file__, url, *([_TOOLS] if with_tools else []))
    done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def _ask(client: OpenAI) -> dict[str, Any]:
    [model] = [model.id for model in client.models.list()]
    answer = client.chat.completions.create(model=model, messages=[_QUESTION], max_tokens=_LONGEST)
    stream = client.chat.completions.create(model=model, messages=[_QUESTION], max_tokens=_LONGEST, stream=True)
    pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
    return {
        "model": model,
        "answer": answer.choices[0].message.content,
        "streamed": "".join(pieces),
        "pieces": len(pieces),
    }


def _use_tool(client: OpenAI, model: str) -> dict[str, Any]:
    asked = client.chat.completions.create(model=model, messages=[_QUESTION], tools=[_TOOL])
    calls: Any = asked.choices[0].message.tool_calls
    result: Any = {"role": "tool", "tool_call_id": calls[0].id, "content": "sunny"}
    said: Any = asked.choices[0].message.model_dump(exclude_none=True)
    told = client.chat.completions.create(model=model, messages=[_QUESTION, said, result], tools=[_TOOL])
    return {
        "calls": [call.function.model_dump() for call in calls],
        "finish_reason": asked.choices[0].finish_reason,
        "after_tool": told.choices[0].message.content,
    }


def _main() -> None:
    # A failed request must be visible, so it is not repeated.
    with OpenAI(base_url=f"{sys.argv[1]}/v1", api_key="none", max_retries=0, timeout=30) as opened:
        told = _ask(opened)
        if _TOOLS in sys.argv:
            told |= _use_tool(opened, told["model"])
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    _main()
