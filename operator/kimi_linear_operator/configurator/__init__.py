"""The configurator: one page, without a server, on which people put a server and its benchmark together.

The page is made from the same models and rules as everything else: what it knows of them is data that is written into
it here. Its own part, in the folder `page/` of the repository, is built with Node and kept as `page.html`, so that
nobody else needs Node.
"""

import json
from importlib import resources

from kimi_linear_operator.configurator.contents import contents

_DATA = "{{ data }}"


def page() -> str:
    """Return the page."""
    template = resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    # Within <script>, nothing may look like the end of it or the beginning of a comment.
    text = json.dumps(contents(), separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    before, after = template.split(_DATA)
    return before + text + after
