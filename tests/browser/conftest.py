"""The real app in a process of its own and a real Chromium that looks at it.

Fixtures: `app_url`; `page`, which fails the test when a page showed an exception or the browser an
    error;
`open_page(path, **query)`, which goes to a page of the app and waits until its script has run;
`settle()`, which waits for a rerun to end. What a test leaves on the screen is kept in
`WORKBENCH_SCREENSHOTS`, if set.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
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
"""Milliseconds a page may take: the first one of a fresh machine imports torch and reads a model.
"""
FAULTS = '[data-testid="stException"], [data-testid="stAlert"]:has-text("a fault of the workbench")'


def command(port: int) -> list[str]:
    """What starts the app; the one place that says so."""
    return [sys.executable, "-m", "workbench", "app", "--port", str(port)]


@pytest.fixture(scope="session")
def app_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an app with a home folder of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = tmp_path_factory.mktemp("home")
    log = (home / "app.log").open("w")
    # What an installed wheel has by itself: runs start `python -m workbench.store.worker` in any
    # folder.
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
    """One Chromium for all tests. A machine without it skips, except in CI."""
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
    """A fresh window of 1440 x 900; at the end no exception may stand on the page and none in the
    browser.
    """
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
    """Wait until the script of the page has run to its end and nothing on it is stale."""

    def wait() -> None:
        app = page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]')
        expect(app).to_have_count(1, timeout=PATIENCE)
        expect(page.locator('[data-testid="stSpinner"]')).to_have_count(0, timeout=PATIENCE)

    return wait


@pytest.fixture
def open_page(page: Page, app_url: str, settle: Callable[[], None]) -> Callable[..., Page]:
    """Open `path` of the app ("" is Home) with the query parameters given, and wait for it."""

    def open_(path: str = "", **query: str) -> Page:
        page.goto(f"{app_url}/{path}" + (f"?{urlencode(query)}" if query else ""))
        page.locator("h1").first.wait_for()
        settle()
        assert page.locator(FAULTS).count() == 0, page.locator(FAULTS).all_inner_texts()
        return page

    return open_
