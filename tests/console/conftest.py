"""The console in a real Chromium, at a real service."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from contract.declaration import ActionSpec
from tests import builders
from tests.service.running import Running, promote, running, settings_for, wait_until

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


# Playwright's event loop counts as running until it is closed, and `asyncio.run` refuses to start
# beside it: it must not outlive the tests that use it.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    assert chromium is not None, "apt-get install chromium"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A repository with three versions, of which the first is stable."""
    for version in (1, 2, 3):
        builders.write_policy(
            tmp_path / "policies", version=version, profile=builders.profile(), floor=9.5
        )
    promote(tmp_path)
    return tmp_path


@pytest.fixture
def service(data: Path) -> Iterator[Running]:
    with running(settings_for(data, grafana_url="http://localhost:3000")) as started:
        policy = "/v1/policies/cartpole"
        wait_until(lambda: started.client.get(policy).json()["stable"] == 1, "version 1 serves")
        yield started


@pytest.fixture
def masked(tmp_path: Path) -> Iterator[Running]:
    """A policy some of whose actions may not be legal."""
    actions = ActionSpec(count=2, labels=("left", "right"), masked=True)
    builders.write_policy(tmp_path / "policies", builders.declaration(actions=actions))
    promote(tmp_path)
    with running(settings_for(tmp_path)) as started:
        policy = "/v1/policies/cartpole"
        wait_until(lambda: started.client.get(policy).json()["stable"] == 1, "version 1 serves")
        yield started


class Reader:
    """Someone who reads the console, and what their browser complained of."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._take)

    def _take(self, message: Any) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    def open(self, port: int) -> None:
        self.page.goto(f"http://127.0.0.1:{port}/")

    def wait_for_state(self, state: str) -> None:
        self.page.wait_for_selector(f"#connection[data-state={state}]")

    def text(self, selector: str) -> str:
        return self.page.inner_text(selector)

    def wait_for_text(self, selector: str, text: str) -> None:
        self.page.locator(selector, has_text=text).first.wait_for()


@pytest.fixture
def reader(browser: Browser) -> Iterator[Reader]:
    context = browser.new_context(viewport={"width": 390, "height": 844})
    found = Reader(context.new_page())
    yield found
    context.close()
