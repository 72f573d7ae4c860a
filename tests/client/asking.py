"""Requests to a server with SGLang's API."""

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any


def ask(url: str, body: object = None, key: str = "", seconds: float = 10) -> tuple[int, str]:
    """Return status and text of an answer; status 0 without an answer.

    Raises:
        TimeoutError: There was no answer in time.
    """
    try:
        with urllib.request.urlopen(_request(url, body, key), timeout=seconds) as response:  # noqa: S310
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError):
        return 0, ""


def answer(url: str, body: object, key: str = "", seconds: float = 10) -> dict[str, Any]:
    """Return an answer, which must be successful."""
    status, text = ask(url, body, key, seconds)
    assert status == 200, text
    result: dict[str, Any] = json.loads(text)
    return result


def events(url: str, body: dict[str, Any], key: str = "", seconds: float = 10) -> Iterator[dict[str, Any]]:
    """Yield the events of a stream. The stream must end like SGLang's streams."""
    with urllib.request.urlopen(_request(url, body | {"stream": True}, key), timeout=seconds) as response:  # noqa: S310
        assert response.status == 200
        lines = (line.decode().removeprefix("data: ").strip() for line in response)
        for line in filter(None, lines):
            if line == "[DONE]":
                return
            yield json.loads(line)
    raise AssertionError("The stream has no end.")


def _request(url: str, body: object, key: str) -> urllib.request.Request:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    content = None if body is None else json.dumps(body).encode()
    return urllib.request.Request(url, content, headers)  # noqa: S310 - of our own server
