"""An open page, with the browser's messages and requests since it was opened."""

from pathlib import Path

from playwright.sync_api import Page


class Visit:
    """A page from a file."""

    def __init__(self, page: Page, file: Path, fragment: str = "") -> None:
        self.page = page
        self.messages: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self.messages.append(message.text))
        page.on("pageerror", lambda error: self.messages.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.goto(file.as_uri() + fragment)
        self.requests.remove(file.as_uri())
