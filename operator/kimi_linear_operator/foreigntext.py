"""Text from outside: logs of containers, messages of the kubelet, files.

Before such text is stored or printed, secrets are replaced and terminal control characters are removed.
"""

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

HIDDEN = "[redacted]"
# In characters. No log that Kubernetes quotes is longer. Longer text is cut, because the search for secrets takes
# longer for longer texts, and a user can make the API server quote a large spec.
LONGEST_TEXT = 32 * 1024
# In characters. Messages of the API server and of controllers begin with names of at most 253 characters and the cause.
# Long quotes come after that.
_LONGEST_HEAD = 1024

# These texts are not secrets: text that is already redacted, and a reference to a variable. Outside quotes, an empty
# value and the start of an object are not secrets, either.
_NOT_HIDDEN = r"(?!\[redacted\]|\$\(\w+\)|\$\{\w+\})"
_NOT_EMPTY = r"(?!(?:None|null|nil|true|false)(?![\w-])|\{)"
# A value in quotes ends with the same quote. In JSON within JSON, this quote is escaped. A value without quotes is a
# list, or ends before a space or before a character that closes a list of arguments.
_IN_QUOTES = r"(?:(?!(?P=quote))(?:\\.|[^\n]))+"
_BARE = _NOT_EMPTY + r"""(?:\[[^\]\n]*\]?|[^\s"'`]*[^\s"'`,;&)\]}|])"""
_VALUE = r"""(?P<quote>\\?["'`])?""" + _NOT_HIDDEN + rf"(?P<secret>(?(quote){_IN_QUOTES}|{_BARE}))"
# Between a name and its value: `=`, `:`, `=>`, or the comma of a list such as ["--api-key", "..."].
_BETWEEN = r"""(?:\\?["'`]?[ \t]*(?:=>|=(?!=)|:)[ \t]*(?:b(?=["']))?|\\?["'][ \t]*,[ \t]*b?(?=\\?["']))"""
_SCHEME = r"(?:basic|bearer|digest|token)\s+"

_SECRETS: Mapping[str, re.Pattern[str]] = {
    name: re.compile(pattern, re.IGNORECASE | re.DOTALL)
    for name, pattern in {
        "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?P<secret>.+?)(?=-----END|\Z)",
        "user and password in an address": r"://" + _NOT_HIDDEN + r"(?P<secret>[^\s/\"'<>|]+)@",
        "the header Authorization": r"\bauthorization" + _BETWEEN + rf"(?:{_SCHEME}|(?!{_SCHEME}))" + _VALUE,
        "a bearer token": r"\bbearer\s+" + _VALUE,
        "a cookie": r"\b(?:set-)?cookie[\"']?\s*:\s*[\"']?" + _NOT_HIDDEN + r"(?P<secret>[^\n\"'|]+)",
        "a named key": r"(?:api|access|secret|private|signing|encryption)[ _-]?keys?" + _BETWEEN + _VALUE,
        "a password": r"(?:secret|password|passwd|passphrase|credential)s?" + _BETWEEN + _VALUE,
        "a secret in the environment": r"(?-i:[A-Z0-9]_(?:AUTH|KEY|PASS|PAT|PWD))" + _BETWEEN + _VALUE,
        "a signed address": r"[?&](?:x-amz-(?:credential|signature)|signature|sig|policy)=(?P<secret>[^&\s\"']+)",
        # Words with "token" that are not secrets: a number of tokens (max_new_token=512), and a token of a vocabulary
        # (<|...|>).
        "a token": r"(?<!tik)token" + _BETWEEN + r"""(?!\\?["']?(?:\d+(?:\.\d+)?(?![\w.-])|<))""" + _VALUE,
        "a flag or a header": r"(?<![\w-])(?:--|x-)[a-z-]*(?:key|token|secret|password)[ \t]+(?![-=:])" + _VALUE,
        # The rest of the token must be long, or contain capitals or digits: hf_transformers is a module, and
        # HF_ENDPOINT a variable.
        "a token of Hugging Face": (
            r"\b(?!(?-i:HF_[A-Z]+)\b)(?P<secret>hf_(?:[a-z0-9]{30,}|(?-i:[a-z]*[A-Z0-9])[a-z0-9]{7,}))"
        ),
        "a key in OpenAI's form": r"\b(?P<secret>sk-[A-Za-z0-9_-]{16,})",
        "a token of GitHub or GitLab": r"\b(?P<secret>(?:gh[pousr]|github_pat|glpat)[_-][A-Za-z0-9_-]{16,})",
        "an access key of AWS": r"\b(?P<secret>A[KS]IA[A-Z0-9]{16})\b",
        "a key of Google, NVIDIA or Slack": r"\b(?P<secret>(?:AIza|ya29\.|nvapi-|xox[abprs]-)[A-Za-z0-9_-]{16,})",
        "a JSON web token": r"(?<![\w-])(?P<secret>eyJ[\w-]{5,}\.[\w-]+(?:\.[\w-]*)?)",
    }.items()
}

# ECMA-48: control sequences (colours, cursor movement), strings for the terminal (its title, a link), other escapes.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]"
)


def redacted(text: str) -> str:
    """Replace everything in a text that looks like a secret."""
    for pattern in _SECRETS.values():
        text = pattern.sub(_with_secret_hidden, text)
    return text


def printable(text: str) -> str:
    """Remove escape sequences, and replace characters that control a terminal, reverse text or are invalid in XML."""
    plain = _ESCAPES.sub("", text)
    if plain.isascii() and plain.isprintable():
        return plain
    return "".join(character if _is_printable(character) else "\N{REPLACEMENT CHARACTER}" for character in plain)


def printable_json(value: Any) -> Any:
    """Make all keys and texts of a JSON value printable."""
    if isinstance(value, dict):
        return {printable(str(key)): printable_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [printable_json(item) for item in value]
    return printable(value) if isinstance(value, str) else value


def cleaned(text: str) -> str:
    """Return a text that can be stored, logged and printed.

    It has at most LONGEST_TEXT characters, and contains no secrets or escapes.
    """
    # Remove escapes first. An escape within a secret would hide the secret from the patterns.
    return redacted("\n".join(map(printable, text[:LONGEST_TEXT].splitlines())))


def head(text: str) -> str:
    """Return the beginning of a message, for patterns that would take too long on the whole message."""
    return text[:_LONGEST_HEAD]


def one_line(text: str) -> str:
    """Clean a text and join its lines with ` | `."""
    return " | ".join(stripped for line in cleaned(text).split("\n") if (stripped := line.strip()))


def _with_secret_hidden(match: re.Match[str]) -> str:
    start, end = (position - match.start() for position in match.span("secret"))
    return match[0][:start] + HIDDEN + match[0][end:]


def _is_printable(character: str) -> bool:
    # Category C: control, format (can reverse text), surrogate, private-use and unassigned characters.
    return character in "\n\t" or not unicodedata.category(character).startswith("C")
