"""A browser for tests of pages: Playwright with the system's own Chromium, offline, and axe-core; where either is missing, a skip that says why."""

import os
import shutil

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# A container has no sandbox of its own and little shared memory; nothing is fetched in the background.
SWITCHES = [
    "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
REMEDY = "set RECAP_BROWSER to a Chromium, or install one (Debian: apt install chromium; else: playwright install chromium)"


def executable() -> str | None:
    """The system's Chromium, None where there is none."""
    named = os.environ.get("RECAP_BROWSER")
    return named or next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="module")
def browser():
    """A Chromium without a window. `browser.new_page(viewport=..., color_scheme=...)` gives a page."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -r requirements-dev.txt")
    with playwright.sync_playwright() as running:
        try:  # None: the one that `playwright install` brought
            started = running.chromium.launch(executable_path=executable(), args=SWITCHES)
        except playwright.Error as error:
            if executable():
                raise
            pytest.skip(f"no browser ({str(error).splitlines()[0]}): {REMEDY}")
        yield started
        started.close()


def axe_findings(page, within: str | None = None) -> list[str]:
    """What axe-core calls serious or critical on a page, a line each: rule, number of places, the first place."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page, context=within).response["violations"]
    return [
        f"{v['id']} ({v['impact']}): {len(v['nodes'])}, first {v['nodes'][0]['target']}"
        for v in found
        if v["impact"] in ("serious", "critical")
    ]
