"""The configurator: one page, without a backend, on which people configure a server and its benchmark.

The page uses the same models and rules as the operator: this package writes them into the page as data. The source of
the page is the folder `page/` of the repository. Node builds it into `page.html`, so only a change in `page/` needs
Node.
"""

import json
from importlib import resources

from kimi_linear_operator.configurator.contents import contents

_DATA = "{{ data }}"
_NAVIGATION = "{{ navigation }}"


def page(navigation: str = "") -> str:
    """Return the page.

    Args:
        navigation: HTML for the header of the page: links to the site that it is a part of.
    """
    template = resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    # In <script>, no text may look like the end of the script or the beginning of a comment.
    text = json.dumps(contents(), separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    before, after = template.replace(_NAVIGATION, navigation).split(_DATA)
    return before + text + after
