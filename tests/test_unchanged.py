"""A reader's page is made again when anything that it is made from, or any of its files, has changed; else it is kept."""

import gzip
from pathlib import Path

import pytest

from reports import build, unchanged
from tests.made_up_records import make_results


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("unchanged")
    make_results(home / "results", images=12)
    return home


@pytest.fixture
def made(home, monkeypatch):
    """made() builds, and says whether the demo's page was made again."""

    def build_all() -> bool:
        seen = []
        add = build._add_verdicts
        with monkeypatch.context() as patch:
            patch.setattr(build, "_add_verdicts", lambda page: (seen.append(page), add(page)))
            build.build_reports(home / "results", home / "none", home / "reports")
        return bool(seen)

    return build_all


def test_a_page_is_kept_until_something_changes(home, made, monkeypatch):
    page, results = home / "reports/demo", home / "results/demo"
    assert made() and not made()
    before = (page / "index.html").read_bytes()
    (page / "tables/scores.csv").unlink()
    assert made() and not made()
    (page / "index.html").write_text("cut")
    assert made() and (page / "index.html").read_bytes() == before
    (page / unchanged.FILE).write_text('{"inputs": ')
    assert made() and not made()
    (home / "results/marked").mkdir()
    (home / "results/marked/demo.json").write_text('{"schema": 1, "how": "by nobody", "marked": []}')
    assert made() and not made()
    captions = next(path for path in (results / "captions").glob("*.gz") if not path.name.startswith("references"))
    captions.write_bytes(gzip.compress(gzip.decompress(captions.read_bytes()), 1))
    assert made() and not made()
    record = next((results / "runs").glob("*.json"))
    text = record.read_text()
    record.write_text(text + "\n")
    assert made() and not made()
    monkeypatch.setattr(unchanged, "_code", lambda: "other code")
    assert made() and not made()


def test_generated_pages_are_no_code():
    """A page among the inputs of pages would never be kept."""
    first = unchanged._code.__wrapped__()
    generated = unchanged.ROOT / "reports" / "made-up-profile"
    generated.mkdir()
    try:
        (generated / "claims.json").write_text("{}")
        assert unchanged._code.__wrapped__() == first
    finally:
        (generated / "claims.json").unlink()
        generated.rmdir()
