"""The web demo's page: without a browser, then as people use it, in one.

The server is a process of its own under an audit hook, which notes every address that is looked up or connected to and every file opened for writing.
"""

import csv
import hashlib
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from html import escape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save

from captioning import Caption, load_captioner
from captioning.config import Decode
from captioning.vocabulary import UNK
from captioning.web.budget import PAGE_MB, SERVER_MB
from captioning.web.uploads import MOST_FILES, MOST_MB
from tests.browser import axe_findings, browser  # noqa: F401
from tests.streamlit_session import Session
from tests.web_files import claims, file_of, make_demo

ROOT = Path(__file__).resolve().parents[1]
SCRIPT_NAME = "<script>document.title='run'</script>[x](javascript:y) :smile: $z$.png"
# Rules by which axe-core finds Streamlit's own elements (version 1.67) serious or critical; none at present.
STREAMLITS_OWN: set[str] = set()
UPLOADER = "Photos: JPEG, PNG, GIF, WebP, TIFF, BMP or AVIF"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_demo(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def photos(folder) -> list[Path]:
    return sorted((folder / "data/images").glob("*.png"))


@pytest.fixture(scope="module")
def captioner(folder):
    return load_captioner(folder / "checkpoints/looks", "cpu")


@pytest.fixture
def page(folder, monkeypatch):
    """The page of app.py after its first run, with these words after `--`."""
    from streamlit.testing.v1 import AppTest

    def open_page(*line: str):
        monkeypatch.setattr(sys, "argv", ["app.py", *line])
        return AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()

    return open_page


def own(page) -> str:
    """All that the page writes in HTML of its own."""
    return "\n".join(element.proto.body for element in page.get("html"))


def test_without_a_checkpoint_the_page_says_the_command_that_makes_one(page, tmp_path):
    shown = page("--checkpoints", str(tmp_path))
    assert [code.value for code in shown.code] == ["python benchmarks/run_all.py"] and "holds no checkpoint" in own(shown)
    assert not shown.exception and (ROOT / shown.code[0].value.split()[1]).is_file()


@pytest.mark.parametrize("line, said", [(["--checkpoint", "x"], "unrecognized arguments: --checkpoint x; after"), 
    (["--checkpoints", "nowhere"], "nowhere: no such folder"),
                                        (["--checkpoints"], "--checkpoints: expected one argument; after")])  # fmt: skip
def test_a_wrong_command_line_is_a_sentence_in_the_page(page, line, said):
    shown = page(*line)
    assert said in own(shown) and not shown.exception and not shown.selectbox


def test_good_photos_are_captioned_beside_a_broken_one(page, folder, photos):
    shown = page("--checkpoints", str(folder / "checkpoints"))
    files = [
        ("a.png", photos[0].read_bytes(), "image/png"),
        ("<b>.png", b"broken", "image/png"),
        ("a.png", photos[1].read_bytes(), "image/png"),
    ]
    shown.file_uploader[0].set_value(files).run()
    assert not shown.exception and "&lt;b&gt;.png: not an image" in own(shown) and "<b>" not in own(shown)
    assert "2 photos" in own(shown) and [*shown.main.selectbox[-1].options] == ["1. a.png", "2. a.png"]


def test_words_are_drawn_only_by_a_language_model(page, folder, photos):
    shown = page("--checkpoints", str(folder / "checkpoints/looks"))
    assert not shown.toggle
    shown = page("--checkpoints", str(folder / "checkpoints/draws"))
    shown.file_uploader[0].set_value(("a.png", photos[0].read_bytes(), "image/png")).run()
    searched = own(shown)
    shown.toggle[0].set_value(True).run()
    drawn = {}
    for seed in (1, 2, 1, 3):
        shown.number_input[0].set_value(seed).run()
        assert drawn.setdefault(seed, own(shown)) == own(shown)
    assert len({*drawn.values(), searched}) == 4 and not shown.exception


@pytest.mark.parametrize("name, draw", [("looks", False), ("draws", False), ("draws", True)])
def test_what_a_model_does_not_know_it_does_not_say(page, folder, photos, tmp_path, name, draw):
    """Two checkpoints that would say <unk> first of all; searched and drawn, the page says something else."""
    copied = shutil.copytree(folder / "checkpoints" / name, tmp_path / name)
    weights = load_file(copied / "model.safetensors")
    if name == "looks":
        weights["decoder.project.bias"][UNK] += 12
    else:  # a language model's last states all towards that word
        weights["decoder.model.ln_f.bias"] += 200 * weights["decoder.model.wte.weight"][UNK]
    (copied / "model.safetensors").write_bytes(save(weights))
    facts = json.loads((copied / "config.json").read_text()) | {"model_sha256": hashlib.sha256(save(weights)).hexdigest()}
    (copied / "config.json").write_text(json.dumps(facts))
    assert "<unk>" in load_captioner(tmp_path / name, "cpu").caption([photos[0]], Decode(beam=5, max_words=50))[0].text

    shown = page("--checkpoints", str(tmp_path))
    shown.file_uploader[0].set_value(("a.png", photos[0].read_bytes(), "image/png")).run()
    if draw:
        shown.toggle[0].set_value(True).run()
    (caption,) = re.findall(r'class="recap-caption"[^>]*>(.*?)</', own(shown))
    assert caption.split() and "unk" not in caption and not shown.exception


def test_photos_that_are_too_many_together_are_let_go(page, folder, photos):
    shown = page("--checkpoints", str(folder / "checkpoints"))
    shown.file_uploader[0].set_value([(f"{n}.png", photos[0].read_bytes(), "image/png") for n in range(MOST_FILES + 1)]).run()
    assert "101 photos: at most 100" in own(shown) and not shown.file_uploader[0].value and not shown.exception


def test_two_photos_of_one_coco_number_are_shown_like_others(page, folder, photos):
    shown = page("--checkpoints", str(folder / "checkpoints/looks"))
    names = [f"COCO_{split}2014_000000000001.jpg" for split in ("val", "train")]
    shown.file_uploader[0].set_value([(name, photo.read_bytes(), "image/png") for name, photo in zip(names, photos, strict=False)]).run()
    assert not shown.exception and [*shown.main.selectbox[-1].options] == [f"{n}. {name}" for n, name in enumerate(names, start=1)]
    assert 'class="recap-caption"' in own(shown)


def test_a_full_page_asks_each_photo_once(page, folder, photos, monkeypatch):
    asked = []

    def say(captioner, photo, decode):
        asked.append(decode)
        return Caption("a dog", -1.0, ["a", "dog"])

    monkeypatch.setattr("captioning.web.answers.say", say)
    shown = page("--checkpoints", str(folder / "checkpoints"))
    shown.sidebar.selectbox[1].set_value(str(folder / "checkpoints/draws"))
    pictures = [file_of(Image.new("RGB", (8, 8), (number, 0, 0))) for number in range(MOST_FILES)]
    shown.file_uploader[0].set_value([(f"{n}.png", data, "image/png") for n, data in enumerate(pictures)]).run()
    assert len(asked) == 2 * MOST_FILES and not shown.exception
    shown.main.selectbox[-1].select_index(1).run()
    for number in range(60):  # as if thirty photos more had been looked into
        shown.session_state["kept"][number] = None
    shown.main.selectbox[-1].select_index(2).run()
    assert len(asked) == 2 * MOST_FILES and len(shown.session_state["kept"]) < 300 and not shown.exception


def test_uploads_stay_when_checkpoint_or_source_change(page, folder, photos, tmp_path):
    for name, data in (("looks", "photographs"), ("draws", "demo")):
        copied = shutil.copytree(folder / "checkpoints" / name, tmp_path / name)
        facts = json.loads((copied / "config.json").read_text())
        facts["data"]["name"] = data
        (copied / "config.json").write_text(json.dumps(facts))
    shown = page("--checkpoints", str(tmp_path))
    assert shown.radio[0].value == "Files"
    shown.file_uploader[0].set_value(("mine.png", photos[0].read_bytes(), "image/png")).run()
    shown.sidebar.selectbox[0].set_value(str(tmp_path / "draws")).run()
    assert shown.radio[0].value == "Files" and "knows no photographs" in own(shown) and shown.file_uploader[0].value[0].name == "mine.png"
    said = own(shown)
    shown.radio[0].set_value("Examples").run()
    assert shown.button(key="example-0").label == "Example 1 ✓" and own(shown) != said
    shown.radio[0].set_value("Files").run()
    assert own(shown) == said and not shown.exception
    assert page("--checkpoints", str(tmp_path / "draws")).radio[0].value == "Examples"


AUDITED = """
import os, runpy, sys
log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def note(event, arguments):
    if event in ("socket.connect", "socket.bind"):
        text = f"{event} {arguments[1]!r}"
    elif event == "socket.getaddrinfo":
        text = f"look up {arguments[0]!r}"
    elif event == "open" and arguments[2] and arguments[2] & (os.O_WRONLY | os.O_RDWR) and isinstance(arguments[0], (str, bytes)):
        text = f"write {arguments[0]!r}"
    else:
        return
    os.write(log, (text + "\\n").encode())
sys.addaudithook(note)
sys.argv = ["streamlit", *sys.argv[2:]]
runpy.run_module("streamlit", run_name="__main__")
"""


@pytest.fixture(scope="module")
def server(folder, tmp_path_factory):
    """(address, audit log, process) of a server for the two checkpoints, as README starts it."""
    log = tmp_path_factory.mktemp("server") / "audit.txt"
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    line = ["run", "app.py", "--server.port", str(port), "--", "--checkpoints", str(folder / "checkpoints")]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    said = log.with_name("output.txt")
    with open(said, "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", AUDITED, str(log), *line], cwd=ROOT, env=environment, stdout=output, stderr=output
        )
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://localhost:{port}/_stcore/health", timeout=5).read()
                break
            except OSError:
                assert process.poll() is None, said.read_text()
                time.sleep(0.1)
        yield f"http://localhost:{port}", log, process
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def visit(browser, server):  # noqa: F811
    """Open the demo: visit(width=..., scheme=...) -> page. Whatever leaves for another address is cut off, and fails the test."""
    address, opened, left = server[0], [], []

    def keep_here(route):
        if route.request.url.startswith(address):
            route.continue_()
        else:
            left.append(route.request.url)
            route.abort()

    def open_page(width: int = 1280, scheme: str = "light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        opened.append(context)
        context.route("**/*", keep_here)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.goto(address)
        page.get_by_test_id("stFileUploader").wait_for()
        return page

    yield open_page
    for context in opened:
        context.close()
    assert left == []


def upload(page, *files: tuple[str, bytes]) -> None:
    payload = [{"name": name, "mimeType": "image/png", "buffer": data} for name, data in files]
    page.locator("input[type=file]").set_input_files(payload)


def stepper(page, number: int = 0):
    return page.get_by_role("slider", name="Step through the words").nth(number)


def settled(page) -> None:
    """Streamlit runs nothing, and what it drew last stands."""
    page.wait_for_timeout(100)
    page.wait_for_function("document.querySelector('[data-test-script-state=notRunning]') && !document.querySelector('[data-stale=true]')")


def test_upload_step_through_words_and_take_the_strip(visit, captioner, photos):
    page = visit()
    upload(page, (photos[0].name, photos[0].read_bytes()))
    stepper(page).wait_for()
    (expected,) = captioner.caption([photos[0]], Decode(beam=5, max_words=50, ban_unk=True))
    assert page.locator(".recap-caption").inner_text() == " ".join(expected.words)
    assert page.get_by_alt_text(f"photo {photos[0].name}", exact=True).count() == 1

    stepper(page).focus()
    for number, word in enumerate(expected.words[:2], start=1):
        page.keyboard.press("ArrowRight")
        lit = page.get_by_alt_text(f"Word {number} of {len(expected.words)}, “{word}”: attention lies ")
        lit.wait_for()
        assert page.locator("mark").inner_text() == word and stepper(page).get_attribute("aria-valuetext") == str(number)
    with page.expect_download() as waiting:
        page.get_by_role("button", name="All words as a strip").click()
    strip = Image.open(waiting.value.path())
    assert strip.format == "PNG" and strip.width > 500

    page.get_by_label("Your reference captions").fill(" ".join(expected.words))
    page.keyboard.press("Control+Enter")
    row = page.get_by_role("row", name="BLEU-1")
    row.wait_for()
    assert row.inner_text().split() == ["BLEU-1", "100.00"]
    page.get_by_text("captions, best first").click()
    assert page.locator(".recap-list li").count() == 5


def test_two_checkpoints_stand_side_by_side(visit, folder, photos):
    page = visit()
    upload(page, (photos[1].name, photos[1].read_bytes()))
    stepper(page).wait_for()
    page.get_by_label("Compare with").click()
    page.get_by_role("option", name="draws").click()
    stepper(page, 1).wait_for()
    settled(page)
    said = [
        load_captioner(folder / "checkpoints" / name, "cpu").caption([photos[1]], Decode(max_words=50))[0].words
        for name in ("looks", "draws")
    ]
    assert page.locator(".recap-caption").all_inner_texts() == [" ".join(words) for words in said]
    left, right = (page.get_by_role("heading", name=name).bounding_box() for name in ("looks", "draws"))
    assert left["y"] == right["y"] and left["x"] + left["width"] <= right["x"]
    page.set_viewport_size({"width": 390, "height": 800})
    page.wait_for_function("document.querySelectorAll('h2.recap-name')[1].getBoundingClientRect().x < 100")
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_names_are_text_and_a_broken_photo_stops_nobody(visit, photos):
    page = visit()
    page.set_viewport_size({"width": 1280, "height": 1800})  # a list of choices closes when the page scrolls
    upload(page, ("good.png", photos[0].read_bytes()), ("torn.png", photos[1].read_bytes()[:99]), (SCRIPT_NAME, photos[2].read_bytes()),
           ("huge.png", claims(9_000, 9_000)))  # fmt: skip
    page.get_by_role("table", name="2 photos").wait_for()
    stepper(page).wait_for()
    settled(page)
    assert sorted(text.split(":")[0] for text in page.get_by_role("alert").all_inner_texts()) == ["huge.png", "torn.png"]
    assert [cell.inner_text() for cell in page.locator("tbody th").all()] == ["good.png", SCRIPT_NAME]
    page.get_by_label("Look into").click()
    page.get_by_role("option", name=f"2. {SCRIPT_NAME}").click()
    page.get_by_alt_text(f"photo {SCRIPT_NAME}", exact=True).wait_for()
    assert page.title() == "ReCap: caption a photo" and page.locator("a[href^=javascript]").count() == 0
    downloads = []
    for name in ("Captions as CSV", "COCO results JSON"):
        with page.expect_download() as waiting:
            page.get_by_role("button", name=name).click()
        downloads.append(Path(waiting.value.path()).read_text(encoding="utf-8"))
    table, coco = list(csv.DictReader(io.StringIO(downloads[0]))), json.loads(downloads[1])
    assert [row["image"] for row in table] == ["good.png", SCRIPT_NAME] and [one["caption"] for one in coco] == [
        row["caption"] for row in table
    ]


@pytest.mark.parametrize("width, scheme", [(1280, "light"), (390, "dark")])
def test_axe_finds_nothing_serious_in_our_own_markup(visit, photos, width, scheme):
    page = visit(width, scheme)
    upload(page, ("a.png", photos[0].read_bytes()), ("b.png", b"none"), ("c.png", photos[1].read_bytes()))
    stepper(page).wait_for()
    settled(page)
    page.get_by_label("Your reference captions").fill("a red square")
    page.keyboard.press("Control+Enter")
    page.get_by_role("table", name="Scores").wait_for()
    settled(page)
    assert axe_findings(page, ".stHtml") == []
    assert {finding.split()[0] for finding in axe_findings(page)} <= STREAMLITS_OWN
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.get_by_text("Examples", exact=True).click()
    page.get_by_role("button", name="Example 1 ✓").wait_for()
    settled(page)
    assert not page.get_by_test_id("stFileUploader").is_visible()
    if width == 390:
        assert page.locator(".recap-caption").bounding_box()["y"] < 700  # the caption is in sight, below eight examples
    assert {finding.split()[0] for finding in axe_findings(page)} <= STREAMLITS_OWN
    page.get_by_text("Files", exact=True).click()
    page.get_by_role("table", name="2 photos").wait_for()
    assert page.get_by_test_id("stFileUploader").is_visible()


def memory_mb(process, line: str) -> int:
    """line: VmRSS, what the process has now, or VmHWM, the most it ever had. 0 where the system has no such file."""
    status = Path(f"/proc/{process.pid}/status")
    return int(re.search(rf"{line}:\s+(\d+)", status.read_text())[1]) // 1024 if status.exists() else 0


def test_24_uploads_at_once_are_all_answered_in_bounded_memory(server, captioner):
    """12 megapixels each, decoded all at once 24 times 36 MB, and as much again while they are turned and scaled. The files alone have 8 MB each:
    noise, which no format makes smaller."""
    address, _, process = server
    pixels = np.zeros((3000, 4000, 3), np.uint8)
    pixels[:, ::7] = 200, 40, 40
    pixels[:700] = np.random.default_rng(0).integers(0, 256, pixels[:700].shape)
    picture = file_of(Image.fromarray(pixels), "PNG", compress_level=1)
    assert len(picture) > 8_000_000
    ready = threading.Barrier(24)

    def visit(number: int) -> tuple[str, list[str]]:
        with Session(address) as session:
            session.run()
            if number < 24:
                ready.wait(60)
            session.upload(UPLOADER, (f"{number}.png", picture + bytes([number])))
            return "".join(session.html), session.progress

    (expected,) = captioner.caption([picture], Decode(max_words=50))
    visit(24)
    before = memory_mb(process, "VmHWM")
    with ThreadPoolExecutor(24) as people:
        visits = list(people.map(visit, range(24)))
    for html, _ in visits:
        assert f'<p class="recap-caption">{escape(" ".join(expected.words))}</p>' in html and 'role="alert"' not in html
    waited = [int(found[1]) for _, said in visits for text in said if (found := re.search(r"waiting, (\d+) before you", text))]
    assert len(waited) >= 10 and max(waited) >= 5
    assert memory_mb(process, "VmHWM") - before < 600


def test_what_all_pages_upload_has_a_limit_before_a_script_runs(server):
    address, _, process = server
    noise, before = os.urandom(19 * 2**20), memory_mb(process, "VmRSS")
    with Session(address, patience=20) as page, Session(address, patience=20) as other, Session(address, patience=20) as third:
        for one in (page, other, third):
            one.run()
        page.upload(UPLOADER, *[(f"{number}.png", noise) for number in range(MOST_MB // 19 + 1)])
        assert "209 MB of photos: at most 200" in "".join(page.html)  # and they are let go: below there is room for as many again
        kept = {one: fill(one, noise) for one in (page, other, third)}
        counts = [len(urls) for urls in kept.values()]
        # The photos of the pages that the tests above closed are still kept for a minute.
        assert counts[0] == PAGE_MB // 19 and (SERVER_MB - 24 * 9) // 19 <= sum(counts) <= SERVER_MB // 19
        assert memory_mb(process, "VmRSS") - before < SERVER_MB + 100
        for urls in kept[page]:
            page.take_back(urls)
        page.upload(UPLOADER, ("broken.png", b"none"))
        assert "broken.png: not an image" in "".join(page.html)


def fill(page: Session, data: bytes) -> list:
    """Sent until the server takes no more."""
    kept = []
    while len(kept) <= SERVER_MB:
        try:
            kept.append(page.put("more.png", data))
        except OSError:
            break
    return kept


def test_nothing_was_looked_up_sent_or_written(server, photos):
    """Last: what the server did for one upload, and in all tests above. Its own address, this machine's; no file but what the Python it runs in keeps
    for itself."""
    with Session(server[0]) as page:
        page.run()
        page.upload(UPLOADER, ("a.png", photos[0].read_bytes()))
        assert 'class="recap-caption"' in "".join(page.html)
    heard = set(server[1].read_text().splitlines())
    here = {line for line in heard if re.search(r"127\.0\.0\.1|::1|localhost", line)}
    assert any(line.startswith("socket.bind") for line in here)  # else the hook heard nothing
    assert [line for line in heard - here if "/dev/" not in line] == []
