"""Files of captions: what other readers get from them, going on from them, a kill at any moment, and what a hundred thousand photos cost."""

import csv
import errno
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioning import caption_output, locks
from captioning.atomic import atomic_write
from captioning.bad_input import BadInput
from captioning.caption_output import COLUMNS, FORMATS, CaptionFile, check_writable, coco_ids, describe_decode, open_output, strip_name
from captioning.config import Decode
from captioning.locks import held

ROOT = Path(__file__).resolve().parents[1]
MADE_BY = {"checkpoint": "results/a", "model": "0123456789ab", "decode": "beam 5"}
# What file systems and vocabularies can hold: anything but lone surrogates, and NUL in names.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


def entry(image: str, caption: str = "a dog", score: float = -1.5, **more) -> dict:
    return {
        "image": image,
        "image_id": image,
        "place": f"/photos/{image}",
        "caption": caption,
        "score": score,
        "ended": True,
        "words": caption.split(),
        **MADE_BY,
        **more,
    }


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(TEXT, st.tuples(TEXT, st.floats(-1e6, 0)), min_size=1, max_size=4))
def test_other_readers_get_what_was_said_and_a_second_call_the_same_bytes(tmp_path_factory, said):
    folder = tmp_path_factory.mktemp("o")
    for name in ("json", "csv", "coco"):
        with CaptionFile(folder / name, name, MADE_BY) as output:
            for image, (caption, score) in said.items():
                output.add(entry(image, caption, score))
        before = (folder / name).read_bytes()
        again = CaptionFile(folder / name, name, MADE_BY)
        assert all(again.has(entry(image)) for image in said) and not again.has(entry("\0"))
        again.save()
        assert (folder / name).read_bytes() == before
    assert [(e["image"], (e["caption"], e["score"])) for e in json.loads((folder / "json").read_text("utf-8"))] == list(said.items())
    assert json.loads((folder / "coco").read_text("utf-8")) == [{"image_id": i, "caption": c} for i, (c, _) in said.items()]
    with open(folder / "csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["image"], (row["caption"], float(row["score"]))) for row in rows] == list(said.items())


def test_pandas_reads_alternatives_as_rows():
    both = [{"caption": 'a "dog", wet', "score": -1.25, "ended": True}, {"caption": "a", "score": -2.0, "ended": False}]
    format = FORMATS["csv"]
    table = pandas.read_csv(io.StringIO(format.head + format.row(entry("x,y.jpg", alternatives=both)) + format.row(entry("z.jpg"))))
    assert tuple(table.columns) == COLUMNS and list(table["image"]) == ["x,y.jpg", "x,y.jpg", "z.jpg"]
    assert list(table["caption"]) == ['a "dog", wet', "a", "a dog"] and list(table["score"]) == [-1.25, -2.0, -1.5]
    assert list(table["rank"]) == [1, 2, 1] and list(table["ended"]) == [True, False, True]


def test_nothing_said_is_an_empty_list(tmp_path, capsys):
    for name in ("json", "coco"):
        with open_output("", name, MADE_BY):
            pass
        assert json.loads(capsys.readouterr().out) == []
        with open_output(str(tmp_path / name), name, MADE_BY):
            pass
        assert json.loads((tmp_path / name).read_text()) == []


def test_an_error_before_the_first_caption_leaves_no_file(tmp_path, capsys):
    for place in ("-", str(tmp_path / "o.json")):
        with pytest.raises(BadInput), open_output(place, "json", MADE_BY):
            raise BadInput("--beam 500")
    assert capsys.readouterr().out == "" and list(tmp_path.iterdir()) == []


WRITER = """
import sys
from captioning import caption_output
caption_output.SAVE_SECONDS, caption_output.SAVE_SHARE = -1.0, float("inf")  # after every entry
made_by = {"checkpoint": "results/a", "model": "0123456789ab", "decode": "beam 5"}
with caption_output.CaptionFile(sys.argv[1], sys.argv[2], made_by) as output:
    for i in range(len(output.rows), 10**9):
        ids = {"image": f"{i}.jpg", "image_id": i, "place": f"/photos/{i}.jpg"}
        output.add({**ids, "caption": "a dog", "score": -1.0, "ended": True, "words": [], **made_by})
"""


@pytest.mark.parametrize("name", ["json", "coco"])
def test_a_kill_at_any_moment_leaves_a_whole_file(tmp_path, name):
    path, sizes = tmp_path / "o.json", []
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path), name], cwd=ROOT)
        until = time.monotonic() + 20
        while time.monotonic() < until and (not path.exists() or path.stat().st_size < 5000 * (len(sizes) + 1)):
            time.sleep(0.005)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        names = [e["image"] if name == "json" else f"{e['image_id']}.jpg" for e in json.loads(path.read_text())]
        assert names == [f"{i}.jpg" for i in range(len(names))]
        sizes.append(len(names))
    assert sizes == sorted(set(sizes))  # each call went on from the one before


def test_a_hundred_thousand_photos_are_not_written_a_hundred_thousand_times(tmp_path, monkeypatch):
    """On a clock where a photo takes 10 ms and a saved row 20 us (2 s for all), saving takes a twentieth of the time, and a kill costs a minute at most."""
    now, saving, saves = 0.0, 0.0, 0
    output = CaptionFile(tmp_path / "o.json", "json", MADE_BY)
    monkeypatch.setattr(caption_output.time, "monotonic", lambda: now)

    class Sink(io.StringIO):
        def __enter__(self):
            return self

        def __exit__(self, *_):
            nonlocal now, saving, saves
            now, saving, saves = now + 20e-6 * len(output.rows), saving + 20e-6 * len(output.rows), saves + 1

    monkeypatch.setattr(caption_output, "atomic_write", lambda _: Sink())
    output.saved, row = now, entry("x")
    for i in range(100_000):
        now += 0.01
        output.add(row | {"image": f"{i}.jpg"})
    assert 10 < saves < 100 and saving < 0.06 * now
    assert now - output.saved < 60


@pytest.mark.parametrize(
    "name, text, said",
    [
        ("json", "[\n", "is there already and not what --format json writes"),
        ("json", '{"a": 1}', "(no list)"),
        ("json", "[1]", "not what --format json writes"),
        ("json", '[{"image": "x.jpg", "caption": "a dog"}]', "not what --format json writes"),
        ("csv", "image,caption\nx.jpg,a dog\n", "its first line is not image,caption,rank"),
        ("csv", ",".join(COLUMNS) + "\nx.jpg,a dog\n", "not what --format csv writes"),
        ("csv", b"\xff\xd8\xff".decode("latin-1"), "not what --format csv writes"),
        ("coco", '[{"image": "x.jpg"}]', "not what --format coco writes"),
        ("coco", '[{"image_id": "x", "caption": "a dog"}]', "is there already without o.made-by.json"),
        ("json", "[" * 100_000, "not what --format json writes"),
        ("json", json.dumps([entry("x.jpg", checkpoint="results/b")]), "x.jpg in it has checkpoint 'results/b', this call 'results/a'"),
    ],
)
def test_a_file_of_another_kind_is_left_alone(tmp_path, name, text, said):
    (tmp_path / "o").write_text(text)
    with pytest.raises(BadInput) as error:
        CaptionFile(tmp_path / "o", name, MADE_BY)
    assert said in str(error.value) and (tmp_path / "o").read_text() == text


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[]", "{}", json.dumps(MADE_BY | {"photos": {}}), json.dumps(MADE_BY | {"photos": {"x.jpg": 1}})]
)
def test_coco_results_with_what_is_said_of_others_are_left_alone(tmp_path, text):
    with CaptionFile(tmp_path / "o", "coco", MADE_BY) as output:
        output.add(entry("x.jpg"))
    (tmp_path / "o.made-by.json").write_text(text)
    with pytest.raises(BadInput, match="does not belong to"):
        CaptionFile(tmp_path / "o", "coco", MADE_BY)


@pytest.mark.parametrize(
    "name, said",
    [("there/x.csv", ""), ("new/deep/x.csv", ""), ("old.csv", ""), ("old.csv/x.csv", "Not a directory"), ("there", "is a folder"),
     ("x" * 300, "File name too long"), ("new/" + "x" * 300, "File name too long"), ("new/../../x.csv", ""), ("loop/x.csv", "cannot be"),
     ("leads-nowhere.csv", "cannot be"), ("leads-here.csv", ""),
],
)  # fmt: skip
def test_a_trial_says_what_writing_would_and_leaves_nothing(tmp_path, name, said):
    home = tmp_path / "home"
    (home / "there").mkdir(parents=True)
    (home / "old.csv").write_text("as it was")
    (home / "loop").symlink_to("loop")
    (home / "leads-nowhere.csv").symlink_to("/proc/nowhere/x.csv")
    (home / "leads-here.csv").symlink_to("there/x.csv")
    (tmp_path / "x.csv").write_text("outside")
    before = sorted(tmp_path.rglob("*"))
    if said:
        with pytest.raises(BadInput, match=f"^--out .*{said}"):
            check_writable("--out", home / name)
    else:
        check_writable("--out", home / name)
    assert sorted(tmp_path.rglob("*")) == before and (home / "old.csv").read_text() == "as it was"
    assert (tmp_path / "x.csv").read_text() == "outside"


def test_one_folder_by_two_names_is_one_checkpoint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results" / "a").mkdir(parents=True)
    (tmp_path / "o").write_text(json.dumps([entry("x.jpg", checkpoint=str(tmp_path / "results" / "a"))]))
    assert CaptionFile(tmp_path / "o", "json", MADE_BY).has(entry("x.jpg"))


def test_ids_of_coco_results():
    assert coco_ids(["v/COCO_val2014_000000391895.jpg", "000000000042.jpg"]) == {
        "v/COCO_val2014_000000391895.jpg": 391895,
        "000000000042.jpg": 42,
    }
    assert coco_ids(["v/COCO_val2014_000000391895.jpg", "dog.jpg"]) == {
        "v/COCO_val2014_000000391895.jpg": "COCO_val2014_000000391895",
        "dog.jpg": "dog",
    }
    assert coco_ids(["1191338263_a4fa073154.jpg"]) == {"1191338263_a4fa073154.jpg": "1191338263_a4fa073154"}  # Flickr's are no numbers
    for names in (["a/dog.jpg", "b/dog.png"], ["COCO_train2014_000000000042.jpg", "000000000042.jpg"]):
        with pytest.raises(BadInput, match="would both be image (dog|42); caption them in two calls, into two files"):
            coco_ids(names)


@settings(max_examples=200, deadline=None)
@given(st.lists(TEXT, min_size=2, max_size=2, unique=True))
def test_names_of_strips_are_harmless_and_differ(names):
    one, other = map(strip_name, names)
    assert one.casefold() != other.casefold()
    assert Path(one).name == one and one.endswith(".png") and not one.startswith((".", "~")) and len(one.encode()) <= 255


def test_how_captions_were_searched_in_words():
    assert describe_decode(Decode(ban_unk=True)) == "beam 5, no unk"
    assert describe_decode(Decode(beam=1), "argmax") == "beam 1, unk allowed, locations argmax"
    assert describe_decode(Decode(sample=True, temperature=0.5, seed=3, ban_unk=True)) == "sample, temperature 0.5, seed 3, no unk"


def test_two_processes_at_one_file_are_kept_apart(tmp_path):
    """Each would write the whole file, and the captions of one would be lost."""
    path = tmp_path / "new" / "o.csv"
    with CaptionFile(path, "csv", MADE_BY) as output:
        code = f"from captioning.caption_output import CaptionFile; CaptionFile({str(path)!r}, 'csv', {MADE_BY!r})"
        other = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
        assert "another caption.py is writing it; wait for it or choose another name" in other.stderr
        output.add(entry("a.jpg"))
        other = path.with_name("link.csv")
        other.symlink_to("o.csv")
        with pytest.raises(BadInput, match="another caption.py is writing it"):
            CaptionFile(other, "csv", MADE_BY)
    assert sorted(os.listdir(path.parent)) == ["link.csv", "o.csv"] and CaptionFile(path, "csv", MADE_BY).has(entry("a.jpg"))


def test_a_lock_leaves_nothing_waits_as_long_as_it_may_and_is_none_where_no_file_can_be_made(tmp_path, monkeypatch):
    lock = tmp_path / "new" / "deep" / ".lock"
    with pytest.raises(ZeroDivisionError), held(lock, "busy"):
        assert lock.exists()
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    code = (
        f"import time; from captioning.locks import held\nwith held({str(lock)!r}, 'busy'):\n    print('held', flush=True); time.sleep(1)"
    )
    other = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n"
    with pytest.raises(BadInput, match="^busy$"), held(lock, "busy", 0.2):
        pass
    with held(lock, "busy", 20):
        assert other.wait(10) == 0

    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(locks, "open", refuse, raising=False)
    with held(tmp_path / ".lock", "busy"):
        pass
    assert not (tmp_path / ".lock").exists()


@pytest.mark.parametrize("mode, content", [("w", "new"), ("wb", b"new")])
def test_a_link_stays_one_and_a_pipe_is_written_to(tmp_path, mode, content):
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to("real.csv")
    (tmp_path / "new.csv").symlink_to("elsewhere.csv")
    for name in ("link.csv", "new.csv"):
        with atomic_write(tmp_path / name, mode) as file:
            file.write(content)
        assert (tmp_path / name).is_symlink() and (tmp_path / name).resolve().read_text() == "new"
    with pytest.raises(ZeroDivisionError), atomic_write(tmp_path / "link.csv", mode):
        raise ZeroDivisionError
    assert (tmp_path / "real.csv").read_text() == "new"
    os.mkfifo(tmp_path / "pipe")
    reader = subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE)
    with atomic_write(tmp_path / "pipe", mode) as file:
        file.write(content)
    assert reader.communicate(timeout=10)[0] == b"new" and not (tmp_path / "pipe").is_file()
    code = f"from captioning.atomic import atomic_write\nwith atomic_write('/dev/fd/1', {mode!r}) as file: file.write({content!r})"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True)
    assert said.stdout == b"new" and not said.stderr
    with atomic_write("/dev/null", mode) as file:
        file.write(content)
    assert not Path("/dev/null").is_file()
