"""Text of other programs is stored and printed without secrets and without control sequences."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_linear_operator import foreigntext
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.foreigntext import HIDDEN
from kimi_linear_operator.kubernetes.pod_reasons import worst_reason
from kimi_linear_operator.kubernetes.refusals import refusal
from kimi_linear_operator.server.sglang.program import SGLANG
from processor_time import cost

SECRETS = [
    ("using token hf_abcDEF1234567890", f"using token {HIDDEN}"),
    ("using hf_abcdefghijklmnopqrstuvwxyzabcdefgh", f"using {HIDDEN}"),
    ("ServerArgs(api_key='sk-12-34', tp=4)", f"ServerArgs(api_key='{HIDDEN}', tp=4)"),
    ("api_key='sk-abc,def'", f"api_key='{HIDDEN}'"),
    ("api_key='it\\'s, so', tp=4", f"api_key='{HIDDEN}', tp=4"),
    ('api_key="secret words" rest', f'api_key="{HIDDEN}" rest'),
    ("api_key: secret", f"api_key: {HIDDEN}"),
    ("f(api_key=abc)", f"f(api_key={HIDDEN})"),
    ("api_keys=['a', 'b'], tp=4", f"api_keys={HIDDEN}, tp=4"),
    ("HF_TOKEN=verysecret rest", f"HF_TOKEN={HIDDEN} rest"),
    ("AWS_SECRET_ACCESS_KEY=wJalr/XUtn+FEMI rest", f"AWS_SECRET_ACCESS_KEY={HIDDEN} rest"),
    ("aws_access_key_id AKIAIOSFODNN7EXAMPLE", f"aws_access_key_id {HIDDEN}"),
    ("client_secret=abc&grant_type=x", f"client_secret={HIDDEN}"),
    ("clientSecret: abc", f"clientSecret: {HIDDEN}"),
    ('{"secret": "a, b", "tp": 4}', f'{{"secret": "{HIDDEN}", "tp": 4}}'),
    ('{"accessToken":"abc","tp":4}', f'{{"accessToken":"{HIDDEN}","tp":4}}'),
    (json.dumps(json.dumps({"password": "a b", "tp": 4})), f'"{{\\"password\\": \\"{HIDDEN}\\", \\"tp\\": 4}}"'),
    ("https://user:pass@host/path", f"https://{HIDDEN}@host/path"),
    ("redis://:p@ss@host:6379", f"redis://{HIDDEN}@host:6379"),
    ("https://oauth2-token@host", f"https://{HIDDEN}@host"),
    ("x-api-key abc-def", f"x-api-key {HIDDEN}"),
    ("X-Api-Key: abc-def", f"X-Api-Key: {HIDDEN}"),
    ("[(b'x-api-key', b'abc')]", f"[(b'x-api-key', b'{HIDDEN}')]"),
    ("['--api-key', 'sk-1']", f"['--api-key', '{HIDDEN}']"),
    ("--api-key sk-1", f"--api-key {HIDDEN}"),
    ("--admin-api-key=sk-1 --tp 4", f"--admin-api-key={HIDDEN} --tp 4"),
    ("--hf-token abc --tp 4", f"--hf-token {HIDDEN} --tp 4"),
    ("Authorization: Bearer abc.def", f"Authorization: Bearer {HIDDEN}"),
    ("'authorization': 'Basic dXNlcjpwYXNz'", f"'authorization': '{HIDDEN}'"),
    ("Set-Cookie: session=abc; Path=/", f"Set-Cookie: {HIDDEN}"),
    ("password = hunter2", f"password = {HIDDEN}"),
    ("password: 1234", f"password: {HIDDEN}"),
    ("PGPASSWORD=a&b;c rest", f"PGPASSWORD={HIDDEN} rest"),
    ("AZURE_STORAGE_KEY=abc== DB_PASS: x", f"AZURE_STORAGE_KEY={HIDDEN} DB_PASS: {HIDDEN}"),
    ("https://cas.example/f?X-Amz-Signature=ab12&x=1", f"https://cas.example/f?X-Amz-Signature={HIDDEN}&x=1"),
    ("xoxb-123456789012-abcdef", HIDDEN),
    ("token=abc123", f"token={HIDDEN}"),
    ("invalid key sk-proj-abcdefghijklmnop", f"invalid key {HIDDEN}"),
    ("git clone https://x; ghp_abcdefghijklmnop1234", f"git clone https://x; {HIDDEN}"),
    ("got eyJhbGciOi.eyJzdWIi.c2ln", f"got {HIDDEN}"),
    ("-----BEGIN RSA PRIVATE KEY-----\nMII\nabc\n-----END RSA PRIVATE KEY-----", None),
    ("-----BEGIN PRIVATE KEY-----\nMII\nabc", None),
]
HARMLESS = [
    'File "sglang/srt/utils/hf_transformers/tokenizer.py", line 423',
    "hf_quant_config.json, hf_hub_download, hf_transformers_utils.py",
    "max_new_token=512",
    "max_total_num_tokens=1048576, chunked",
    "ServerArgs(api_key=None, admin_api_key=None, tp=4)",
    "--api-key=$(API_KEY) --tp 4",
    "token: ${HF_TOKEN}",
    "eos_token='<|im_end|>'",
    "tiktoken==0.9.0",
    "ModuleNotFoundError: No module named 'tiktoken'",
    "--tokenizer-path /models/kimi --tool-call-parser kimi_k2",
    'secret "hf" not found',
    "couldn't find key token in Secret default/hf",
    '{"name": "v", "secret": {"secretName": "hf"}}',
    "spec.model.tokenSecretRef.name: must be text",
    "https://huggingface.co/moonshotai/Kimi-Linear-48B-A3B-Instruct",
    "mail to somebody@example.com",
]


@pytest.mark.parametrize(("text", "shown"), SECRETS)
def test_secrets_are_hidden_however_they_are_written(text: str, shown: str | None) -> None:
    found = foreigntext.cleaned(text)
    assert found == (shown or found)
    assert "MII" not in found


@pytest.mark.parametrize("text", HARMLESS)
def test_text_that_only_looks_like_a_secret_stays(text: str) -> None:
    assert foreigntext.one_line(text) == text


def words(source: str) -> Iterator[str]:
    """All strings of a module, with a letter in place of each value."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)


def test_our_own_words_are_not_mistaken_for_secrets() -> None:
    """Conditions and log lines are cleaned as a whole, including the operator's own words."""
    package = Path(foreigntext.__file__).parent
    modules = [path for path in package.rglob("*.py") if path.name != "foreigntext.py" and path.parent.name != "sglang"]
    assert len(modules) > 60
    changed = [text for path in modules for text in words(path.read_text()) if foreigntext.redacted(text) != text]
    assert changed == []


ESCAPES = [
    ("\x1b]0;owned\x07title", "title"),
    ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
    ("\x1b[2J\x1b[1;31mred\x1b[0m", "red"),
    ("\x9b31mred", "red"),
    ("\x1b(Btext\x1bc", "text"),
    ("\x1bP+q544e\x1b\\after", "after"),
    ("a\x08\x08b", "a��b"),
    ("a‮b", "a�b"),
    ("lone \x1b", "lone �"),
    ("\ttabs\tand ümläuts, 日本", "tabs\tand ümläuts, 日本"),
]


@pytest.mark.parametrize(("text", "shown"), ESCAPES)
def test_control_sequences_are_removed(text: str, shown: str) -> None:
    assert foreigntext.one_line(text) == shown


def test_an_escape_within_a_secret_does_not_reveal_it() -> None:
    assert foreigntext.one_line("token hf_abc\x1b[0mDEF1234567890") == f"token {HIDDEN}"


def test_several_lines_become_one_line_whatever_ends_them() -> None:
    assert foreigntext.one_line("a\r\n\n  b\rc\x85d\u2028e\n") == "a | b | c | d | e"


TEXTS = st.text(st.sampled_from("hf_sk-tokenapi_key=:,'\"\\ \n[]{}()@/x1\x1b[m;Bearer<|>$&"), max_size=80)


@given(TEXTS)
def test_clean_text_stays_unchanged(text: str) -> None:
    once = foreigntext.one_line(text)
    assert foreigntext.one_line(once) == once


@given(st.text(min_size=1, max_size=40))
def test_a_password_in_quotes_never_shows(secret: str) -> None:
    assert foreigntext.one_line(f"a password={json.dumps(secret)} b") == f'a password="{HIDDEN}" b'


# The beginnings of the patterns that recognise messages. In a text with many such beginnings, the search must not start
# again at each.
STARTS = [
    "ValidatingAdmissionPolicy '' with binding '",
    "admission webhook ",
    "failed quota: ",
    "maximum usage per ",
    'Error creating: pods "',
    "secret ",
    "find key ",
]


# The most expensive of these texts costs about 3.
MOST_COST = 12


@pytest.mark.parametrize("piece", STARTS)
def test_no_message_takes_long_to_classify(piece: str) -> None:
    message = piece * (1_000_000 // len(piece))
    waiting = {"reason": "CreateContainerConfigError", "message": message}
    status = {"phase": "Pending", "containerStatuses": [{"name": "c", "image": "i", "state": {"waiting": waiting}}]}
    pod = {"metadata": {"name": "kimi-0"}, "spec": {"nodeName": "n"}, "status": status}
    assert not ApiError(422, message).is_passing
    assert cost(lambda: ApiError(422, message).is_passing, tries=3) < MOST_COST
    assert cost(lambda: refusal(message), tries=3) < MOST_COST
    assert cost(lambda: worst_reason([pod], "2026-11-24T10:00:00Z", SGLANG), tries=3) < MOST_COST


@pytest.mark.parametrize("piece", ["token=", "--key", "'a\\", "://a@", "x-key ", '"', "api key: [", "eyJ-----"])
def test_no_text_takes_long_to_clean(piece: str) -> None:
    text = piece * (3_000_000 // len(piece))
    assert cost(lambda: foreigntext.one_line(text), tries=3) < MOST_COST
