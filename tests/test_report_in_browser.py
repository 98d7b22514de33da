"""The report as a browser shows it: the committed page and the entry, wide and on a phone, light and dark."""

from pathlib import Path

import pytest

from reports.build import build_reports
from tests.browser import axe_findings, browser  # noqa: F401
from tests.made_up_records import make_results

ROOT = Path(__file__).resolve().parents[1]
COMMITTED = ROOT / "reports/evidence/flickr8k/index.html"


@pytest.fixture(scope="module")
def made_up(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("report")
    make_results(home / "results", images=24)
    return build_reports(home / "results", home / "none", home / "reports")


@pytest.fixture
def opened(browser):  # noqa: F811
    """opened(path, ...) -> a page; what it says on its console and asks of the network must be nothing."""
    pages = []

    def open_page(path: Path, **options):
        page = browser.new_page(**{"viewport": {"width": 1280, "height": 900}} | options)
        page.said, page.asked = [], []
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(path.as_uri())
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        assert page.said == [] and [url for url in page.asked if not url.startswith(("file:", "data:"))] == []
        page.close()


@pytest.mark.parametrize("width, scheme", [(1280, "light"), (390, "dark")])
def test_axe_finds_nothing_serious(made_up, opened, width, scheme):
    for path in (made_up, made_up.parent / "demo/index.html", *([COMMITTED] if width == 1280 else [])):
        page = opened(path, viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert axe_findings(page) == [], path


def test_a_phone_scrolls_tables_and_not_the_page(made_up, opened):
    for path in (made_up, COMMITTED):
        page = opened(path, viewport={"width": 390, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_menu_leads_to_its_sections_and_to_the_page_to_browse(opened):
    page = opened(COMMITTED)
    for link in page.locator("nav a").all():
        address = link.get_attribute("href")
        if address.startswith("#"):
            link.click()
            assert page.evaluate("location.hash") == address and page.locator(address).is_visible()
    page.get_by_role("link", name="Browse all test captions").click()
    assert page.url.endswith("/browse.html") and "1,000 test images" in page.inner_text("body")
