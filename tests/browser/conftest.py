"""The real app in a process of its own, and a real Chromium that looks at it.

Fixtures:
- `app_url`: the address of the app
- `page`: a window; the test fails if a page showed an exception or the browser reported an error
- `open_page(path, **query)`: goes to a page of the app and waits until its script has run
- `settle()`: waits until a rerun has ended

If `WORKBENCH_SCREENSHOTS` names a folder, every test's last screen is saved there.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT = Path(__file__).parents[2]
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 60_000
"""Milliseconds that a page may take: the first page imports torch and reads a model."""
FAULTS = '[data-testid="stException"], [data-testid="stAlert"]:has-text("a fault of the workbench")'


def command(port: int) -> list[str]:
    """The command that starts the app at a port."""
    return [sys.executable, "-m", "workbench", "app", "--port", str(port)]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add what the page and the app's log showed to a failed test's report: CI keeps neither."""
    report = yield
    fixtures = getattr(item, "funcargs", {})
    page = fixtures.get("page")
    if report.when == "call" and report.failed and isinstance(page, Page) and not page.is_closed():
        words = page.locator("body").inner_text()[:3000]
        report.sections.append(("the page", f"{page.url}\n{words}"))
        if home := fixtures.get("app_home"):
            log = home / "app.log"
            report.sections.append(("the app's log", log.read_text()[-3000:]))
    return report


@pytest.fixture(scope="session")
def app_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home folder of the app."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def app_url(app_home: Path) -> Iterator[str]:
    """The address of an app with a home folder of its own."""
    home = app_home
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (home / "app.log").open("w")
    # Runs start `python -m workbench.store.worker` in another folder. An installed wheel is found
    # there; this checkout needs PYTHONPATH.
    environment = {
        **os.environ,
        "WORKBENCH_HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
    }
    app = subprocess.Popen(
        command(port), cwd=home, env=environment, stdout=log, stderr=subprocess.STDOUT
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_healthy(url, app, home / "app.log")
        yield url
    finally:
        app.terminate()
        app.wait(20)
        log.close()


def _wait_until_healthy(url: str, app: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and app.poll() is None:
        try:
            with urlopen(f"{url}/_stcore/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"The app did not come up; its log ends: {log.read_text()[-2000:]}")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests; a machine without it skips them, except in CI."""
    chromium = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    if chromium is None:
        reason = "no Chromium on this machine (Debian: apt-get install chromium)"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A new window of 1440 by 900 pixels; a fault on the page or in the browser is a failure."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    faults = page.locator(FAULTS).all_inner_texts()
    if folder := os.environ.get("WORKBENCH_SCREENSHOTS"):
        name = re.sub(r"[^\w.-]+", "_", request.node.name)
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)
    context.close()
    assert not faults, f"the page shows {faults}"
    assert not errors, f"the browser reports {errors}"


@pytest.fixture
def settle(page: Page) -> Callable[[], None]:
    """A function that waits until the page's script has ended and nothing on the page is stale."""

    def wait() -> None:
        app = page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]')
        expect(app).to_have_count(1, timeout=PATIENCE)
        expect(page.locator('[data-testid="stSpinner"]')).to_have_count(0, timeout=PATIENCE)

    return wait


@pytest.fixture
def open_page(page: Page, app_url: str, settle: Callable[[], None]) -> Callable[..., Page]:
    """A function that opens a page by its path ("" is Home) and query, and waits for its script."""

    def open_(path: str = "", **query: str) -> Page:
        page.goto(f"{app_url}/{path}" + (f"?{urlencode(query)}" if query else ""))
        page.locator("h1").first.wait_for()
        settle()
        assert page.locator(FAULTS).count() == 0, page.locator(FAULTS).all_inner_texts()
        return page

    return open_
