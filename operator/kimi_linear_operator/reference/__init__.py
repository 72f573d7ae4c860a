"""Generator of the pages of `docs/` that list what the code defines: fields, reasons, commands and metrics.

`make generate` runs it as `python -m kimi_linear_operator.reference FOLDER`.
"""

from kimi_linear_operator.reference import command_line, fields, metrics, reasons


def pages() -> dict[str, str]:
    """Return the text of each page by its file name."""
    return {
        "reference.md": fields.page(),
        "reasons.md": reasons.page(),
        "command-line.md": command_line.page(),
        "metrics.md": metrics.page(),
    }
