"""The stand-in's endpoints for SGLang's own API, and its process."""

import asyncio
import json
import os
import signal
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout, web

from stand_in import answers, arguments, behaviour, openai_api
from stand_in.engine import Engine, ToldToFailError
from stand_in.keys import ENGINE
from stand_in.scheduler import Scheduler

VERSION = "0.5.7"
_LOOKS_FOR_OPEN_REQUESTS_SECONDS = 0.1
# How often SGLang sends a request to itself, once per second, before it gives up (http_server.py).
_WARM_UP_ATTEMPTS = 120
# HEALTH_CHECK_TIMEOUT of SGLang's http_server.py.
_HEALTH_CHECK_SECONDS = 20
_LONGEST_REQUEST_BYTES = 64 * 1024**2
# max_new_tokens of SGLang's sampling parameters.
_DEFAULT_LENGTH = 128
_LOGGED_LETTERS = 256

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def build_app(engine: Engine) -> web.Application:
    """Return the application with all endpoints."""
    log = [_log_requests] if engine.arguments.log_requests else []
    app = web.Application(middlewares=[_guard, _count, *log], client_max_size=_LONGEST_REQUEST_BYTES)
    app[ENGINE] = engine
    for path in ("/health", "/health_generate"):
        app.router.add_get(path, _health)
    for path in ("/model_info", "/get_model_info"):
        app.router.add_get(path, _model_info)
    for path in ("/server_info", "/get_server_info"):
        app.router.add_get(path, _server_info)
    app.router.add_get("/ping", _ok)
    app.router.add_route("*", "/flush_cache", _ok)
    app.router.add_post("/generate", _generate)
    if engine.arguments.enable_metrics:
        app.router.add_get("/metrics", _metrics)
    openai_api.add_routes(app)
    return app


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Require the API key like SGLang, for everything except health and metrics."""
    key = request.app[ENGINE].arguments.api_key
    is_free = request.path.startswith(("/health", "/metrics"))
    if key and not is_free and request.headers.get("Authorization") != f"Bearer {key}":
        return web.json_response({"error": "Unauthorized"}, status=401)
    return await handler(request)


@web.middleware
async def _count(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Count the requests for which a drain must wait, and let requests fail like SGLang's web server."""
    engine = request.app[ENGINE]
    engine.open_requests += 1
    try:
        return await handler(request)
    except ToldToFailError:
        return web.Response(status=500, text="Internal Server Error")
    finally:
        engine.open_requests -= 1


@web.middleware
async def _log_requests(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Like SGLang with --log-requests, log when a request for text comes and when its answer is complete.

    SGLang logs the end a moment earlier: when the answer is made. The stand-in logs it later, so that its log shows
    which answers were cut off.
    """
    if request.method != "POST":
        return await handler(request)
    rid, text = uuid.uuid4().hex, await request.text()
    _log(f"Receive: obj=GenerateReqInput(rid={rid!r}, text={text[:_LOGGED_LETTERS]!r})")
    try:
        answer = await handler(request)
        await answer.prepare(request)
        await answer.write_eof()
    finally:
        _log(f"Finish: obj=GenerateReqInput(rid={rid!r})")
    return answer


async def _ok(_request: web.Request) -> web.Response:
    return web.Response()


async def _health(request: web.Request) -> web.Response:
    """Answer whether the engine is alive. Without generation, /health checks only the process."""
    engine = request.app[ENGINE]
    is_cheap = request.path == "/health" and os.environ.get("SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION") == "false"
    if engine.is_healthy and not is_cheap:
        engine.is_known_to_be_dead = not await engine.answers_within(_HEALTH_CHECK_SECONDS)
        return web.Response(status=503 if engine.is_known_to_be_dead else 200)
    return web.Response(status=200 if engine.is_healthy else 503)


async def _model_info(request: web.Request) -> web.Response:
    settings = request.app[ENGINE].arguments
    return web.json_response(
        {
            "model_path": settings.model_path,
            "tokenizer_path": settings.tokenizer_path,
            "is_generation": True,
            "preferred_sampling_params": None,
            "weight_version": "default",
            "has_image_understanding": False,
            "has_audio_understanding": False,
            "model_type": "kimi_linear",
            "architectures": ["KimiLinearForCausalLM"],
        }
    )


async def _server_info(request: web.Request) -> web.Response:
    """All settings, twice. Like SGLang's answer, they contain the API key."""
    settings = vars(request.app[ENGINE].arguments)
    memory = {"weight": 0.0, "kvcache": 0.0, "token_capacity": 0, "graph": 0.0}
    state = {**settings, "last_gen_throughput": 0.0, "memory_usage": memory}
    return web.json_response({**settings, "status": "ready", "internal_states": [state], "version": VERSION})


async def _metrics(request: web.Request) -> web.Response:
    return web.Response(text=request.app[ENGINE].metrics(), content_type="text/plain")


async def _generate(request: web.Request) -> web.StreamResponse:
    engine = request.app[ENGINE]
    body = await request.json()
    if "text" not in body and "input_ids" not in body:
        message = "The request has neither text nor input_ids."
        return web.json_response({"error": {"message": message}}, status=400)
    prompt = body.get("text") or ""
    tokens = len(body["input_ids"]) if "input_ids" in body else len(prompt.encode())
    sampling = body.get("sampling_params") or {}
    answer = answers.complete(
        prompt,
        sampling.get("max_new_tokens", _DEFAULT_LENGTH),
        ignores_end=sampling.get("ignore_eos", False),
        accuracy=engine.behaviour.accuracy,
    )
    output = _Output(tokens, answer)
    if not body.get("stream"):
        async for _length in engine.generate(tokens, answer):
            pass
        return web.json_response(output.until(len(answer.text)))
    lengths = engine.generate(tokens, answer)
    return await openai_api.stream(request, (output.until(length) async for length in lengths))


class _Output:
    """The answers of /generate to one request."""

    def __init__(self, prompt_tokens: int, answer: answers.Answer) -> None:
        self._id = uuid.uuid4().hex
        self._began = time.time()
        self._prompt_tokens = prompt_tokens
        self._answer = answer

    def until(self, length: int) -> dict[str, Any]:
        """Return the answer's text up to a length, and SGLang's metadata about it."""
        text = self._answer.text[:length]
        meta: dict[str, Any] = {
            "id": self._id,
            "finish_reason": None,
            "prompt_tokens": self._prompt_tokens,
            "weight_version": "default",
            "total_retractions": 0,
            "completion_tokens": length,
            "cached_tokens": 0,
        }
        if length == len(self._answer.text):
            meta["finish_reason"] = {"type": self._answer.reason}
            meta["e2e_latency"] = time.time() - self._began
        return {"text": text, "output_ids": list(text.encode()), "meta_info": meta}


async def serve(engine: Engine) -> None:
    """Open the port, warm up, and serve until SIGTERM. Then finish open requests."""
    runner = web.AppRunner(build_app(engine))
    await runner.setup()
    # The handler is set before the port is open, because a client that sees the port may send SIGTERM at once.
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, _drain, engine, stopped)
    site = web.TCPSite(runner, engine.arguments.host, engine.arguments.port)
    await site.start()
    host, port = runner.addresses[0][:2]
    _log(f"Uvicorn running on http://{host}:{port} (Press CTRL+C to quit)")
    if not engine.arguments.skip_server_warmup:
        await _ask_itself(_url(engine.arguments.host, port), engine.arguments.api_key)
        await asyncio.sleep(engine.behaviour.warm_up_seconds)
    engine.is_warm = True
    _log("The server is fired up and ready to roll!")
    await stopped.wait()
    # SGLang checks every five seconds.
    while engine.open_requests and not engine.is_known_to_be_dead:  # noqa: ASYNC110
        await asyncio.sleep(_LOOKS_FOR_OPEN_REQUESTS_SECONDS)
    await runner.cleanup()


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def _ask_itself(url: str, key: str | None) -> None:
    """Like SGLang, request the server's model once per second until there is an answer.

    Use a proxy if the environment names one.

    Raises:
        RuntimeError: It does not answer.
    """
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with ClientSession(url, headers=headers, trust_env=True, timeout=ClientTimeout(total=5)) as session:
        for _ in range(_WARM_UP_ATTEMPTS):
            with suppress(ClientError, TimeoutError):
                async with session.get("/model_info") as answer:
                    answer.raise_for_status()
                    return
            await asyncio.sleep(1)
    raise RuntimeError("Initialization failed: the warm-up got no answer")


def _drain(engine: Engine, stopped: asyncio.Event) -> None:
    _log(f"SIGTERM: draining {engine.open_requests} open requests")
    engine.is_draining = True
    stopped.set()


def _load(seconds: float) -> None:
    """Load for this long, and log each step as SGLang does."""
    _log("Load weight begin. avail mem=191.10 GB")
    _log("Loading safetensors checkpoint shards:   0% Completed | 0/20 [00:00<?, ?it/s]")
    time.sleep(seconds / 2)
    _log("Load weight end. type=KimiLinearForCausalLM, dtype=torch.bfloat16")
    _log("Capture cuda graph begin. This can take up to several minutes.")
    time.sleep(seconds / 2)


def _log(text: str) -> None:
    sys.stdout.write(f"[{time.strftime('%Y-%m-%d %H:%M:%S')}] {text}\n")
    sys.stdout.flush()


def main() -> int:
    """Run the stand-in with the arguments of the command line.

    Until the port is open, nothing handles SIGTERM, as in SGLang. So process 1 of a container then ignores SIGTERM.
    """
    settings = arguments.parse(None)
    told = behaviour.from_environment()
    shown = {name: value for name, value in vars(settings).items() if value and name != "api_key"}
    _log(f"server_args={json.dumps(shown)}")
    engine = Engine(settings, told, Scheduler())
    _load(told.load_seconds)
    asyncio.run(serve(engine))
    if os.getpid() != 1:
        # Like SGLang, kill all processes. So the exit code is 137, although there was no error.
        os.kill(os.getpid(), signal.SIGKILL)
    return 0
