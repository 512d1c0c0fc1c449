"""A real Chromium without a window, and what the tests of the console ask of it."""

from __future__ import annotations

import base64
import os
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import pytest
from selenium.common.exceptions import StaleElementReferenceException, TimeoutException, WebDriverException
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from selenium.webdriver.remote.webelement import WebElement

ROOT = Path(__file__).resolve().parents[3]
AXE = ROOT / "deploy" / "web" / "node_modules" / "axe-core" / "axe.min.js"
SCREENSHOTS = ROOT / "build" / "screenshots"

Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
PHONE_PX, DESK_PX = 360, 1280

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)

T = TypeVar("T")


def require_chromium() -> tuple[str, str]:
    """Return where Chromium and its driver are; without them a test is skipped, but fails where CI says that they must be."""
    found = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None not in found:
        return cast("tuple[str, str]", tuple(found))
    missing = "chromium and chromedriver are not installed"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


@dataclass(frozen=True, slots=True)
class Browser:
    """A browser at the console that is at *address*."""

    driver: Chrome
    address: str

    def open(self, path: str) -> None:
        """Go to a page."""
        self.driver.get(f"{self.address}{path}")

    @property
    def path(self) -> str:
        """Where it is, without the address."""
        return self.driver.current_url.removeprefix(self.address)

    def find(self, selector: str) -> WebElement:
        """Return the first element of a CSS selector, once it is there."""
        return self.until(lambda: self.all(selector))[0]

    def all(self, selector: str) -> list[WebElement]:
        """Return the elements of a CSS selector that are there now."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str = "main") -> str:
        """Return what can be read in an element."""
        return self.find(selector).text

    def press(self, selector: str) -> None:
        """Press a button and wait for the page that it leads to."""
        page = self.find("html")
        self.find(selector).click()
        self.until(lambda: _is_gone(page))

    def fill(self, **fields: str) -> None:
        """Type into the fields of these names."""
        for name, text in fields.items():
            self.find(f"main [name={name}]").send_keys(text)

    def until(self, look: Callable[[], T], *, timeout_s: float = 30) -> T:
        """Return what *look* returns once it is true."""

        def look_again(_: Chrome) -> T:
            try:
                return look()
            except WebDriverException:  # the page, or its live part, was replaced meanwhile
                return cast("T", None)

        try:
            return WebDriverWait(self.driver, timeout_s, poll_frequency=0.05).until(look_again)
        except TimeoutException:
            page = self.run("return document.documentElement.outerHTML")
            pytest.fail(f"not true within {timeout_s} s; at {self.driver.current_url}: {page}")

    def look(self, *, width_px: int, scheme: Scheme) -> None:
        """Be as wide as a screen, and as light or dark as somebody likes it."""
        self._command(
            "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
        )
        self._command(
            "Emulation.setDeviceMetricsOverride",
            width=width_px,
            height=800,
            deviceScaleFactor=1,
            mobile=width_px == PHONE_PX,
        )

    def overhang_px(self) -> int:
        """Return by how much the page is wider than the screen."""
        return int(
            self.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
        )

    def complaints(self) -> list[str]:
        """Return what is in the browser's console: errors of scripts, and what the policy of the page forbade."""
        entries = cast("list[dict[str, Any]]", self.driver.get_log("browser"))  # type: ignore[no-untyped-call]
        return [str(entry["message"]) for entry in entries if entry["level"] in ("WARNING", "SEVERE")]

    def barriers(self) -> list[str]:
        """Return what axe-core finds that keeps somebody from using the page."""
        self.run(AXE.read_text(encoding="utf-8"))
        found = self.run("return axe.run()")
        return [
            f"{rule['id']} ({rule['impact']}): {node['html']}"
            for rule in found["violations"]
            for node in rule["nodes"]
        ]

    def picture(self, name: str) -> None:
        """Keep a picture of the whole page, for a person to look at."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        size = self._command("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 4_000), "scale": 1}
        taken = self._command("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        (SCREENSHOTS / f"{name}.png").write_bytes(base64.b64decode(taken["data"]))

    def run(self, script: str, *arguments: object) -> Any:
        """Run a script in the page and return what it returns."""
        return cast("Any", self.driver).execute_script(script, *arguments)

    def _command(self, name: str, **arguments: Any) -> Any:
        return cast("Any", self.driver).execute_cdp_cmd(name, arguments)


def _is_gone(element: WebElement) -> bool:
    try:
        element.is_enabled()
    except StaleElementReferenceException:
        return True
    return False


@contextmanager
def chromium() -> Generator[Chrome]:
    """Run a Chromium that nobody used before."""
    binary, driver = require_chromium()
    options = ChromeOptions()
    options.binary_location = binary
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with tempfile.TemporaryDirectory(prefix="esap-", ignore_cleanup_errors=True) as profile:
        for flag in (*_FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        browser = Chrome(options=options, service=Service(driver))
        try:
            yield browser
        finally:
            browser.quit()
