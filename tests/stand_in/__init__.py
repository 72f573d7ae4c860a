"""A stand-in for SGLang's server with the same command line and endpoints, but without a model and a GPU.

It loads slowly, opens its port only after that, and is not healthy until it is warm. It answers the requests of
SGLang's own client and of clients of OpenAI's API, drains on SIGTERM, and fails when it is told to.

It is like release 0.5.7: `tests/engine` makes the same assertions about both. These differences are on purpose:

- It looks for the end of the last request ten times a second, SGLang every five seconds.
- It handles SIGTERM from the moment that its port is open, SGLang a second later.
- It does not check whether the model exists.

Its answers are invented, and the same every time: tokens are bytes, and texts repeat a sentence. A share of the
questions about sums, which can be set, gets right answers.

Here:

    PYTHONPATH=tests python -m stand_in --model-path kimi --tp 4 --port 30000

In an image, as `python3 -m sglang.launch_server`:

1.  Python 3.10 or newer and aiohttp; nothing else is imported.
2.  This folder as the package `stand_in` in site-packages.
3.  `launch_server.py` of this folder as `sglang/launch_server.py`: over the real one, where the package sglang is
    installed for its client (benchmarks run the client in the server's image), or beside an empty `sglang/__init__.py`.
4.  `python3 -m stand_in.data FOLDER` writes what the client needs without internet. With `HF_HOME=FOLDER/huggingface`
    and `HF_HUB_OFFLINE=1` the recipe's speed commands find Kimi's tokenizer (ours, under its name) and ShareGPT as if
    they were cached. `FOLDER/tokenizer`, `FOLDER/sharegpt.json` and `FOLDER/gsm8k.jsonl` contain the same as files.

Faults come from the environment: see `Behaviour` in `behaviour.py`.
"""
