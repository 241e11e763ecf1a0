"""A chromium page that keeps an eye on itself: its errors, and what it asks of other computers."""

from urllib.parse import urlparse

from playwright.sync_api import Browser, Page

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
LEFT = "BodyStreamBuffer was aborted"  # gradio's client says so when a page is left while it listens
PATIENCE_MS = 180_000  # a machine that trains at the same time is slow


class Watched:
    """A page of a fresh profile, with everything it complained about or asked of others."""

    def __init__(self, browser: Browser, width: int = 1280, height: int = 900) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": height})
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.errors: list[str] = []
        self.outside: list[str] = []
        self.left = False
        self.page.on("pageerror", self._thrown)
        self.page.on("console", self._complaint)
        self.page.on("request", self._note)

    def leave(self) -> None:
        """Go away from the page; what breaks off by that, and what it says of it, is no complaint."""
        self.left = True
        self.page.goto("about:blank")

    def _thrown(self, error) -> None:
        if LEFT not in str(error) and not self.left:
            self.errors.append(str(error))

    def _complaint(self, message) -> None:
        if message.type == "error" and LEFT not in message.text and not self.left:
            self.errors.append(f"{message.text} ({message.location.get('url', '')})")

    def _note(self, request) -> None:
        url = urlparse(request.url)
        if url.scheme not in ("data", "blob") and url.hostname not in ("127.0.0.1", "localhost"):
            self.outside.append(request.url)
