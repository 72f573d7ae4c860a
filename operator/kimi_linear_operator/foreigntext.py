"""Text that others wrote: logs of containers, messages of the kubelet, files.

Before such text is stored or printed, secrets are hidden and everything that could steer a terminal is taken out.
"""

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

HIDDEN = "[redacted]"
# More than any log that Kubernetes quotes. What is longer is cut: the search for secrets takes time, and whoever can
# make the API server quote a spec could keep the operator busy with it.
LONGEST_TEXT = 32 * 1024
# Where the API server and controllers say what is wrong: names, none longer than 253, and then what they quote.
_LONGEST_HEAD = 1024

# No secret: what is hidden already, a reference to a variable, and without quotes nothing or the start of an object.
_KNOWN = r"(?!\[redacted\]|\$\(\w+\)|\$\{\w+\})"
_NOTHING = r"(?!(?:None|null|nil|true|false)(?![\w-])|\{)"
# In quotes, a value ends with the same quote, which is escaped in JSON within JSON. Without, it is a list, or ends
# before a space or what closes a list of arguments.
_IN_QUOTES = r"(?:(?!(?P=quote))(?:\\.|[^\n]))+"
_BARE = _NOTHING + r"""(?:\[[^\]\n]*\]?|[^\s"'`]*[^\s"'`,;&)\]}|])"""
_VALUE = r"""(?P<quote>\\?["'`])?""" + _KNOWN + rf"(?P<secret>(?(quote){_IN_QUOTES}|{_BARE}))"
# Between a name and its value: `=`, `:`, `=>`, or the comma of a list such as ["--api-key", "..."].
_BETWEEN = r"""(?:\\?["'`]?[ \t]*(?:=>|=(?!=)|:)[ \t]*(?:b(?=["']))?|\\?["'][ \t]*,[ \t]*b?(?=\\?["']))"""
_SCHEME = r"(?:basic|bearer|digest|token)\s+"

_SECRETS: Mapping[str, re.Pattern[str]] = {
    name: re.compile(pattern, re.IGNORECASE | re.DOTALL)
    for name, pattern in {
        "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?P<secret>.+?)(?=-----END|\Z)",
        "user and password in an address": r"://" + _KNOWN + r"(?P<secret>[^\s/\"'<>|]+)@",
        "the header Authorization": r"\bauthorization" + _BETWEEN + rf"(?:{_SCHEME}|(?!{_SCHEME}))" + _VALUE,
        "a bearer token": r"\bbearer\s+" + _VALUE,
        "a cookie": r"\b(?:set-)?cookie[\"']?\s*:\s*[\"']?" + _KNOWN + r"(?P<secret>[^\n\"'|]+)",
        "a named key": r"(?:api|access|secret|private|signing|encryption)[ _-]?keys?" + _BETWEEN + _VALUE,
        "a password": r"(?:secret|password|passwd|passphrase|credential)s?" + _BETWEEN + _VALUE,
        "a secret in the environment": r"(?-i:[A-Z0-9]_(?:AUTH|KEY|PASS|PAT|PWD))" + _BETWEEN + _VALUE,
        "a signed address": r"[?&](?:x-amz-(?:credential|signature)|signature|sig|policy)=(?P<secret>[^&\s\"']+)",
        # A token with a number is one of a text (max_new_token=512), and <|...|> is one of a vocabulary.
        "a token": r"(?<!tik)token" + _BETWEEN + r"""(?!\\?["']?(?:\d+(?:\.\d+)?(?![\w.-])|<))""" + _VALUE,
        "a flag or a header": r"(?<![\w-])(?:--|x-)[a-z-]*(?:key|token|secret|password)[ \t]+(?![-=:])" + _VALUE,
        # Long, or with capitals or digits: hf_transformers is a module.
        "a token of Hugging Face": r"\b(?P<secret>hf_(?:[a-z0-9]{30,}|(?-i:[a-z]*[A-Z0-9])[a-z0-9]{7,}))",
        "a key in OpenAI's form": r"\b(?P<secret>sk-[A-Za-z0-9_-]{16,})",
        "a token of GitHub or GitLab": r"\b(?P<secret>(?:gh[pousr]|github_pat|glpat)[_-][A-Za-z0-9_-]{16,})",
        "an access key of AWS": r"\b(?P<secret>A[KS]IA[A-Z0-9]{16})\b",
        "a key of Google, NVIDIA or Slack": r"\b(?P<secret>(?:AIza|ya29\.|nvapi-|xox[abprs]-)[A-Za-z0-9_-]{16,})",
        "a JSON web token": r"(?<![\w-])(?P<secret>eyJ[\w-]{5,}\.[\w-]+(?:\.[\w-]*)?)",
    }.items()
}

# ECMA-48: a control sequence (colours, moving the cursor), a string for the terminal (its title, a link), and others.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]"
)


def redacted(text: str) -> str:
    """Return a text without what looks like a secret."""
    for pattern in _SECRETS.values():
        text = pattern.sub(_hide, text)
    return text


def printable(text: str) -> str:
    """Return a text without anything that could steer a terminal, reverse its text, or that XML can't hold."""
    plain = _ESCAPES.sub("", text)
    if plain.isascii() and plain.isprintable():
        return plain
    return "".join(character if _is_printable(character) else "\N{REPLACEMENT CHARACTER}" for character in plain)


def printable_json(value: Any) -> Any:
    """Return JSON values whose texts are all printable."""
    if isinstance(value, dict):
        return {printable(str(key)): printable_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [printable_json(item) for item in value]
    return printable(value) if isinstance(value, str) else value


def cleaned(text: str) -> str:
    """Return a text that may be stored, logged and printed: its first lines, without secrets and without escapes."""
    # Escapes go first: one in the middle of a secret would hide it from the patterns.
    return redacted("\n".join(map(printable, text[:LONGEST_TEXT].splitlines())))


def head(text: str) -> str:
    """Return the beginning of a message. Only in this may patterns search that take long when much of it fits."""
    return text[:_LONGEST_HEAD]


def one_line(text: str) -> str:
    """Return a text that may be stored, logged and printed, as one line."""
    return " | ".join(stripped for line in cleaned(text).split("\n") if (stripped := line.strip()))


def _hide(found: re.Match[str]) -> str:
    start, end = (position - found.start() for position in found.span("secret"))
    return found[0][:start] + HIDDEN + found[0][end:]


def _is_printable(character: str) -> bool:
    # C: control, format (which reverses text), surrogate, private and unassigned characters.
    return character in "\n\t" or not unicodedata.category(character).startswith("C")
