"""The web demo's parts: turns, uploads, answers, typed references, downloads, its own HTML, checkpoints by name, examples."""

import asyncio
import csv
import io
import json
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from nltk.translate.bleu_score import sentence_bleu
from PIL import Image
from starlette.exceptions import HTTPException

from captioning import Caption, load_captioner
from captioning.bad_input import BadInput
from captioning.caption_files import read_candidates
from captioning.config import Decode
from captioning.web import markup
from captioning.web.answers import Answer, answer, say
from captioning.web.budget import Budget, page_of
from captioning.web.checkpoints import offers, offers_in
from captioning.web.examples import examples
from captioning.web.score import score_typed
from captioning.web.table import Row, to_coco_results, to_csv, unlike
from captioning.web.turns import Turns
from captioning.web.uploads import MOST_FILES, Upload, check_together, open_upload
from tests.web_files import claims, file_of, make_demo


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_demo(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def photos(folder) -> list[Path]:
    return sorted((folder / "data/images").glob("*.png"))


@pytest.fixture(scope="module")
def captioner(folder):
    return load_captioner(folder / "checkpoints/looks", "cpu")


def test_turns_go_by_arrival_one_at_a_time_and_say_how_many_are_before():
    turns, order, told, inside = Turns(), [], [], []
    first_in, go = threading.Event(), threading.Event()

    def work(number):
        with turns.take(lambda before: told.append((number, before)), every=0.01):
            inside.append(number)
            order.append(number)
            if number == 0:
                first_in.set()
                go.wait(10)
            assert inside == [number]
            inside.remove(number)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for number, worker in enumerate(workers):
        worker.start()
        assert first_in.wait(10)
        while number and (number, number) not in told:
            time.sleep(0.001)
    go.set()
    for worker in workers:
        worker.join(10)
    assert order == [0, 1, 2, 3] and {before for number, before in told if number == 3} <= {1, 2, 3}


def test_a_waiting_page_that_is_closed_leaves_the_line():
    turns, entered = Turns(), []

    class Closed(BaseException):
        pass

    def close(before):
        raise Closed

    with turns.take(), pytest.raises(Closed), turns.take(close):
        entered.append("closed")
    with turns.take(close):  # nobody is before: nothing to tell
        entered.append("next")
    assert entered == ["next"]


def test_too_large_is_said_from_the_header():
    with pytest.raises(BadInput, match=r"big\.png: 10000 x 6000 are 60 megapixels, at most 50 are taken"):
        open_upload(Upload("big.png", claims(10_000, 6_000)))
    with pytest.raises(BadInput, match=r"small\.png: broken or cut short"):
        open_upload(Upload("small.png", claims(100, 60)))
    with pytest.raises(BadInput, match="21 MB, at most 20 MB"):
        open_upload(Upload("long.jpg", bytes(21 * 2**20)))
    with pytest.raises(BadInput, match="101 photos: at most 100"):
        check_together([1] * (MOST_FILES + 1))
    with pytest.raises(BadInput, match="300 MB of photos"):
        check_together([15 * 2**20] * 20)
    check_together([15 * 2**20] * 13)


@pytest.fixture
def uploads():
    """A server that keeps what pages put, behind a budget of 10 bytes, 8 a page: `put(page, chunks)`, `kept` by page, `refused` (status, chunks left)."""
    kept, refused = {}, []

    async def server(scope, receive, send):
        """Reads the whole body, keeps it and answers, as Streamlit does."""
        body = b""
        while (message := await receive())["more_body"]:
            body += message["body"]
        kept.setdefault(page_of(scope["path"]), []).append(body + message["body"])
        await send({"type": "http.response.start", "status": 204})

    budget = Budget(server, lambda: {page: sum(map(len, files)) for page, files in kept.items()}, at_most=10, a_page=8, patience=0.05)

    async def put(page, chunks, method="PUT", pause=0.0):
        parts = [{"body": chunk, "more_body": n < len(chunks)} for n, chunk in enumerate(chunks, start=1)]

        async def receive():
            await asyncio.sleep(pause)  # the others' turn
            return parts.pop(0)

        async def send(message):
            pass

        try:
            await budget({"type": "http", "method": method, "path": f"/_stcore/upload_file/{page}/a-file"}, receive, send)
        except HTTPException as error:
            refused.append((error.status_code, len(parts)))

    return SimpleNamespace(put=put, kept=kept, refused=refused, budget=budget)


def test_uploads_are_counted_while_they_arrive(uploads):
    async def people():
        # 3 + 2 + 3 + 2 = 10 are in, the next 3 are not: the second goes on
        await asyncio.gather(uploads.put("a", [b"123"] * 3), uploads.put("b", [b"45"] * 3))
        await uploads.put("a", [b"6789"])
        await uploads.put("c", [b"0"])
        await uploads.put("c", [b"x" * 99], "POST")  # no upload

    asyncio.run(people())
    assert uploads.refused == [(413, 0), (413, 0)] and uploads.kept == {"b": [b"454545"], "a": [b"6789"], "c": [b"x" * 99]}
    assert uploads.budget.arriving.total() == 0


def test_one_page_leaves_room_for_others_and_does_not_hold_it_by_standing_still(uploads):
    async def people():
        await uploads.put("greedy", [b"12345678"])
        await uploads.put("greedy", [b"9"])
        await asyncio.gather(uploads.put("slow", [b"0"] * 3, pause=0.2), uploads.put("quick", [b"ab"]))

    asyncio.run(people())
    assert uploads.refused == [(413, 0), (408, 3)] and uploads.kept == {"greedy": [b"12345678"], "quick": [b"ab"]}
    assert uploads.budget.arriving.total() == 0


def test_the_format_goes_by_content_not_by_name():
    red = Image.new("RGB", (9, 7), "red")
    assert open_upload(Upload("letter.doc", file_of(red, "GIF"))).size == (9, 7)
    with pytest.raises(BadInput, match=r"photo\.jpg: not an image"):
        open_upload(Upload("photo.jpg", b"GIF, it says" * 99))


def test_a_photo_is_turned_and_its_location_dropped(captioner):
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "OUR-GARDEN"
    exif.get_ifd(0x8825)[1] = "N"
    data = file_of(Image.effect_noise((300, 200), 40).convert("RGB"), "JPEG", exif=exif)
    assert b"OUR-GARDEN" in data
    picture = open_upload(Upload("photo.jpg", data))
    assert picture.size == (200, 300)
    found = answer(captioner, picture, Decode(beam=1, max_words=6))
    for kept in (found.photo, found.strip, file_of(picture), file_of(found.word_picture(0))):
        assert b"OUR-GARDEN" not in kept and not Image.open(io.BytesIO(kept)).getexif()


def test_an_answer_is_what_the_command_line_says(captioner, photos):
    for photo in photos[:4]:
        picture = open_upload(Upload(photo.name, photo.read_bytes()))
        (expected,) = captioner.caption([photo], Decode(beam=4, max_words=12), attend=True)
        found = answer(captioner, picture, Decode(beam=4, max_words=12))
        assert (found.best.text, found.best.score) == (expected.text, pytest.approx(expected.score, abs=1e-4))
        assert say(captioner, picture, Decode(beam=4, max_words=12)).text == expected.text
        assert np.allclose(found.best.attention, expected.attention, atol=1e-5) and found.steps == len(expected.words)
        texts = [caption.text for caption in found.captions]
        assert len(set(texts)) == len(texts) == 4 and texts[0] == expected.text
        assert [c.score for c in found.captions] == sorted((c.score for c in found.captions), reverse=True)


def test_where_a_map_lies_in_words():
    attention = np.full((3, 6, 6), 0.01)
    attention[0, 0, 5] = attention[1, 3, 2] = 1.0
    found = Answer([Caption("a b c", -1.0, ["a", "b", "c"], attention)], "attention", b"")
    assert found.where(0) == "most at the top right, 26.7 times an even share"  # 36 / 1.35
    assert found.where(1).startswith("most at the middle centre") and found.where(2) == "evenly over the whole photo"


def test_typed_references_are_scored_as_nltk_does():
    typed = "A dog runs over the grass.\n\n...\ntwo dogs play"
    scores = score_typed("a dog runs on grass", typed)
    references = [["a", "dog", "runs", "over", "the", "grass"], ["two", "dogs", "play"]]
    said = ["a", "dog", "runs", "on", "grass"]
    assert scores["BLEU-1"] == pytest.approx(100 * sentence_bleu(references, said, (1,)))
    assert scores["BLEU-2"] == pytest.approx(100 * sentence_bleu(references, said, (0.5, 0.5)))
    recall, precision = 4 / 6, 4 / 5
    assert scores["ROUGE-L"] == pytest.approx(100 * (1 + 1.44) * precision * recall / (recall + 1.44 * precision))
    assert score_typed("a dog", " \n!?\n") == {} and score_typed("", "a dog")["BLEU-1"] == 0


def test_captions_download_in_layouts_that_others_read(tmp_path):
    rows = [Row(name, Caption(text, -1.5, text.split()), "row · data", "0123456789ab", Decode(beam=3, ban_unk=True)) for name, text in
            [("a,b.png", 'he said "hi"'), ("image.jpg", "a dog"), ("image.jpg", "a cat"), ("image.png", "")]]  # fmt: skip
    table = list(csv.DictReader(io.StringIO(to_csv(rows).decode(), newline="")))
    columns = ("image", "caption", "score", "checkpoint", "model", "decode")
    assert [tuple(row[column] for column in columns) for row in table] == [
        (row.photo, row.caption.text, "-1.5", "row · data", "0123456789ab", "beam 3, no unk") for row in rows
    ]
    path = tmp_path / "results.json"
    path.write_bytes(to_coco_results(rows))
    assert read_candidates(path).captions == {"a,b": 'he said "hi"', "image": "a dog", "image (2)": "a cat", "image (3)": ""}
    coco = [Row(f"COCO_val2014_{number:012}.jpg", rows[0].caption, "", "", Decode()) for number in (391895, 42)]
    assert [one["image_id"] for one in json.loads(to_coco_results(coco))] == [391895, 42]
    assert unlike(["x.png", "x.jpg", "x (2).gif", "y"]) == ["x", "x (2)", "x (2) (2)", "y"]


@pytest.mark.parametrize("names, ids", [
    (["COCO_val2014_000000000001.jpg", "COCO_train2014_000000000001.jpg"], ["COCO_val2014_000000000001", "COCO_train2014_000000000001"]),
    (["000000000001.jpg", "000000000001.png"], ["000000000001", "000000000001 (2)"]),
    (["..", "..", ".."], ["..", ".. (2)", ".. (3)"]),
])  # fmt: skip
def test_photos_of_one_number_or_name_keep_ids_of_their_own(names, ids):
    rows = [Row(name, Caption("a dog", -1.0, ["a", "dog"]), "", "", Decode()) for name in names]
    assert [one["image_id"] for one in json.loads(to_coco_results(rows))] == ids


def test_markup_holds_no_markup_of_others():
    evil = "<img src=x onerror=alert(1)>&\"'"
    for made in (markup.bad(evil), markup.note(evil), markup.name(evil), markup.caption([evil, evil], 1),
                 markup.alternatives([(evil, -1.0)]), markup.table(evil, [evil, evil], [[evil, evil]])):  # fmt: skip
        assert "<img" not in made and "&lt;img" in made and '&"' not in made


def test_checkpoints_have_names_to_read_and_the_best_is_first(folder, tmp_path):
    found = offers_in(folder / "checkpoints")
    assert [(offer.label, offer.samples) for offer in found] == [
        ("looks · tiny · BLEU-4 40.0", False),
        ("draws · tiny · BLEU-4 12.5", True),
    ]
    assert offers_in(found[0].path) == found[:1]
    twice = [found[0].path, tmp_path / "copy"]
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy/config.json").write_bytes((found[0].path / "config.json").read_bytes())
    (tmp_path / "half").mkdir()
    (tmp_path / "half/config.json").write_text('{"schema": 1')
    assert len({offer.label for offer in offers(twice)}) == 2 and offers([tmp_path / "half"]) == []
    with pytest.raises(BadInput, match="nowhere: no such folder"):
        offers_in(tmp_path / "nowhere")


def test_examples_are_drawn_or_the_readers_own(tmp_path):
    drawn = examples("demo")
    assert len({example.upload.digest for example in drawn}) == len(drawn) == 8
    assert all(open_upload(example.upload).size == (64, 64) and example.references for example in drawn)
    (tmp_path / "cat.jpg").write_bytes(file_of(Image.new("RGB", (20, 10)), "JPEG"))
    (tmp_path / "SOURCES.md").write_text("where they come from")
    assert [example.title for example in examples("flickr8k", tmp_path)] == ["cat"]
    assert examples("flickr8k", tmp_path / "none") == examples("demo", tmp_path) == drawn
