"""Pictures of the web demo, the report and the browse page, wide and on a phone, to be looked at.

    python tests/screenshots.py --out shots
    python tests/screenshots.py --out shots --checkpoints results/demo/checkpoints --report reports/demo

Needs a Chromium (tests/browser.py says which) and a finished profile: python benchmarks/run_all.py. Writes PNG files only.
"""

import argparse
import contextlib
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from captioning.bad_input import BadInput, run_command  # noqa: E402
from tests.browser import REMEDY, SWITCHES, executable  # noqa: E402

SIZES = {"1280": (1280, 900), "390": (390, 844)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--checkpoints", type=Path, default=ROOT / "results/demo/checkpoints", metavar="DIR")
    parser.add_argument("--report", type=Path, default=ROOT / "reports/demo", metavar="DIR")
    parser.add_argument("--photo", type=Path, metavar="F", help="shown to the demo in place of its first example")
    options = parser.parse_args()
    if executable() is None:
        raise BadInput(f"no browser: {REMEDY}")
    if not (options.report / "index.html").is_file():
        raise BadInput(f"{options.report}: no report there; make one with: python benchmarks/run_all.py")
    options.out.mkdir(parents=True, exist_ok=True)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, demo(options.checkpoints) as address:
        browser = playwright.chromium.launch(executable_path=executable(), args=SWITCHES)
        for name, (width, height) in SIZES.items():
            for scheme in ("light", "dark"):
                page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
                for file in ("index.html", "browse.html"):
                    page.goto((options.report / file).resolve().as_uri())
                    page.screenshot(path=options.out / f"{file.removesuffix('.html')}-{name}-{scheme}.png")
                page.goto(address)
                page.get_by_text("Step through the words").wait_for(timeout=120_000)
                if options.photo:
                    page.get_by_text("Files", exact=True).click()
                    page.locator("input[type=file]").set_input_files(options.photo)
                    page.get_by_text("Score").first.wait_for(timeout=120_000)
                page.get_by_role("slider", name="Step through the words").focus()
                for _ in range(2):
                    page.keyboard.press("ArrowRight")
                    page.wait_for_timeout(1500)
                page.screenshot(path=options.out / f"app-{name}-{scheme}.png", full_page=True)
                page.close()
        browser.close()
    print("\n".join(str(path) for path in sorted(options.out.glob("*.png"))))
    return 0


@contextlib.contextmanager
def demo(checkpoints: Path) -> Iterator[str]:
    """app.py served on a free port: its address."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    line = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port), "--", "--checkpoints", str(checkpoints)]
    server = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(240):
            with contextlib.suppress(OSError):
                if urllib.request.urlopen(f"http://localhost:{port}/_stcore/health", timeout=1).read() == b"ok":
                    break
            time.sleep(0.5)
        else:
            raise BadInput(f"the demo did not start within two minutes: {' '.join(line)}")
        yield f"http://localhost:{port}"
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    run_command(main)
