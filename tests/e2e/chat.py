"""Talks to a server with OpenAI's own client and prints what came as JSON: python chat.py URL.

It is run on the node, where the names of Services are known.
"""

import json
import sys
from typing import Any

from openai import OpenAI

_TOOL: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
    },
}
_QUESTION: Any = {"role": "user", "content": "Are you there?"}


def talk(client: OpenAI) -> dict[str, Any]:
    """Return the server's answers: whole, as a stream, and with a tool (its call, then the final answer)."""
    [model] = [model.id for model in client.models.list()]
    answer = client.chat.completions.create(model=model, messages=[_QUESTION])
    stream = client.chat.completions.create(model=model, messages=[_QUESTION], stream=True)
    pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
    asked = client.chat.completions.create(model=model, messages=[_QUESTION], tools=[_TOOL])
    calls: Any = asked.choices[0].message.tool_calls
    result: Any = {"role": "tool", "tool_call_id": calls[0].id, "content": "sunny"}
    said: Any = asked.choices[0].message.model_dump(exclude_none=True)
    told = client.chat.completions.create(model=model, messages=[_QUESTION, said, result], tools=[_TOOL])
    return {
        "model": model,
        "answer": answer.choices[0].message.content,
        "streamed": "".join(pieces),
        "pieces": len(pieces),
        "calls": [call.function.model_dump() for call in calls],
        "finish_reason": asked.choices[0].finish_reason,
        "after_tool": told.choices[0].message.content,
    }


if __name__ == "__main__":
    # No retries, so that a failed request is visible.
    with OpenAI(base_url=f"{sys.argv[1]}/v1", api_key="none", max_retries=0, timeout=30) as opened:
        sys.stdout.write(json.dumps(talk(opened)))
