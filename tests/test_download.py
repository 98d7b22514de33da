"""Data sets from a server on this machine: what load_data reads, or one line that says what is wrong; nothing fetched twice, nothing unasked."""

import hashlib
import json
import os
import pty
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from file_server import NOISE, Served, make_impatient, serving
from photo_sets import make_set

from captioning import download as downloads
from captioning import unpack as unpacking
from captioning.bad_input import BadInput
from captioning.data import describe, load_data
from captioning.download import download
from captioning.sources import SOURCES, Archive, Source

ROOT = Path(__file__).parents[1]
GB = 10**9


@pytest.fixture
def server():
    with serving() as server:
        yield server


@pytest.fixture(autouse=True)
def impatient(tmp_path, monkeypatch):
    monkeypatch.setenv("RECAP_CACHE", str(tmp_path / "cache"))
    make_impatient(monkeypatch)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def source(server, tmp_path) -> Source:
    """A small Flickr8k on the server: captions in one zip, eight photos in another, with what macOS adds."""
    made = make_set(tmp_path / "made")
    with zipfile.ZipFile(tmp_path / "captions.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(made / "dataset_small.json", "dataset_flickr8k.json")
        archive.writestr("dataset_coco.json", "{}")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.mkdir("Photos")
        for photo in sorted((made / "images").iterdir()):
            archive.write(photo, f"Photos/{photo.name}")
            archive.writestr(f"__MACOSX/Photos/._{photo.name}", b"junk")
    archives = []
    for name, members, folder in (("captions.zip", "dataset_flickr8k.json", ""), ("photos.zip", "*.jpg", "Flicker8k_Dataset")):
        content = (tmp_path / name).read_bytes()
        server.files[f"/{name}"] = Served(content)
        archives.append(
            Archive(f"{server.url}/{name}", len(content), 10_000, members, folder, sha256=sha256(content), checksum_from="the test")
        )
    return Source("flickr8k", "Eight photographs", "For tests only.", tuple(archives), "dataset_flickr8k.json")


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file() and path.name[0] != "."
    }


def test_from_the_server_to_load_data(server, source, tmp_path, capsys):
    root, made = tmp_path / "to", load_data(tmp_path / "made")
    download(source, root, accepted=True)
    data = load_data(root)
    assert [e.captions for e in data.examples] == [e.captions for e in made.examples] and data.open_image(3).size == (40, 30)
    assert all(data.images.read(index) == made.images.read(index) for index in range(8))
    shown = capsys.readouterr().out
    assert "For tests only." in shown and "\n".join(describe(data)) in shown
    assert sorted(path.name for path in root.iterdir()) == [
        "Flicker8k_Dataset",
        "SHA256SUMS",
        "TERMS.txt",
        "archives",
        "dataset_flickr8k.json",
    ]
    assert not list(root.glob("archives/*.zip")) and len(list((root / "Flicker8k_Dataset").iterdir())) == 8

    requests, before = len(server.requests), files_in(root)
    download(source, root)  # idle: no request, no question, nothing written
    assert len(server.requests) == requests and files_in(root) == before


def test_what_is_lost_comes_back_and_the_rest_is_left_alone(server, source, tmp_path, capsys):
    root = tmp_path / "to"
    download(source, root, accepted=True)
    before = files_in(root)
    photos = sorted((root / "Flicker8k_Dataset").iterdir())
    times = [photo.stat().st_mtime_ns for photo in photos]
    photos[2].unlink()
    photos[5].write_bytes(b"cut")
    download(source, root)  # the terms were accepted before
    assert files_in(root) == before and "2 of 8 files of photos.zip are gone or changed" in capsys.readouterr().err
    assert [i for i, photo in enumerate(photos) if photo.stat().st_mtime_ns != times[i]] == [2, 5]


def test_kept_archives_and_their_checksums_agree_with_coreutils(source, tmp_path):
    download(source, tmp_path / "to", accepted=True, keep=True)
    result = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=tmp_path / "to", capture_output=True, text=True)
    assert result.returncode == 0 and result.stdout.splitlines() == ["archives/captions.zip: OK", "archives/photos.zip: OK"]


def test_an_archive_got_in_another_way_is_taken_when_its_checksum_is_right(server, source, tmp_path):
    root = tmp_path / "to"
    (root / "archives").mkdir(parents=True)
    for archive in source.archives:
        (root / "archives" / archive.name).write_bytes(server.files.pop(f"/{archive.name}").content)
    download(source, root, accepted=True)
    assert not server.requests and len(load_data(root)) == 8


def test_an_archive_got_in_another_way_is_put_aside_when_it_is_wrong(source, tmp_path):
    archives = tmp_path / "to" / "archives"
    archives.mkdir(parents=True)
    (archives / "photos.zip").write_bytes(NOISE)
    with pytest.raises(
        BadInput, match=rf"{sha256(NOISE)} instead of {source.archives[1].sha256} \(the test\); it is now called .*photos\.zip\.wrong"
    ):
        download(source, tmp_path / "to", accepted=True)
    assert (archives / "photos.zip.wrong").read_bytes() == NOISE
    download(source, tmp_path / "to", accepted=True)


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_wrong_checksum(server, source, tmp_path, kind):
    right = server.files["/photos.zip"].content
    server.files["/photos.zip"].content = right[:-1] + b"!"
    expected = hashlib.new(kind, right).hexdigest()
    published = replace(source.archives[1], **{"sha256": "", "md5": "", kind: expected})
    with pytest.raises(BadInput) as caught:
        download(replace(source, archives=(source.archives[0], published)), tmp_path / "to", accepted=True)
    found = hashlib.new(kind, right[:-1] + b"!").hexdigest()
    assert f"{kind} {found} instead of {expected}" in str(caught.value) and "is removed, run the same command again" in str(caught.value)
    assert not list((tmp_path / "to").glob("archives/photos*")) and not (tmp_path / "to" / "Flicker8k_Dataset").exists()


def test_where_nobody_publishes_a_checksum_the_first_download_counts(server, source, tmp_path, capsys):
    root, first = tmp_path / "to", server.files["/photos.zip"].content
    unknown = replace(source, archives=(source.archives[0], replace(source.archives[1], sha256="", checksum_from="")))
    download(unknown, root, accepted=True)
    assert f"photos.zip: sha256 {sha256(first)}, noted" in capsys.readouterr().out
    (root / "Flicker8k_Dataset" / "photo-3.jpg").unlink()
    server.files["/photos.zip"].content = first + b"!"
    with pytest.raises(BadInput, match=f"other bytes than the first time.*instead of {sha256(first)}"):
        download(unknown, root)
    server.files["/photos.zip"].content = first
    download(unknown, root)


def test_a_dead_link_says_where_a_copy_may_lie(server, source, tmp_path):
    del server.files["/photos.zip"]
    with pytest.raises(
        BadInput, match=r"photos\.zip: the server answers 404.*put it at .*to/archives/photos\.zip and run the same command again$"
    ):
        download(source, tmp_path / "to", accepted=True)


def run_cli(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "captioning.data", "download", *arguments], cwd=ROOT, capture_output=True, text=True, **options
    )


def test_without_a_terminal_the_terms_need_the_flag(tmp_path):
    result = run_cli("flickr8k", "--to", str(tmp_path / "to"), stdin=subprocess.DEVNULL)
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1 and "--accept-licence" in result.stderr
    assert "non-commercial research" in result.stdout and not (tmp_path / "to").exists()


def test_no_standard_input_is_no_terminal(tmp_path):
    result = run_cli("flickr8k", "--to", str(tmp_path / "to"), preexec_fn=lambda: os.close(0))
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1 and "--accept-licence" in result.stderr


def test_ctrl_d_at_the_terms_is_a_no(tmp_path):
    ours, theirs = pty.openpty()
    try:
        os.write(ours, b"\x04")
        result = run_cli("flickr8k", "--to", str(tmp_path / "to"), stdin=theirs)
    finally:
        os.close(ours)
        os.close(theirs)
    assert result.returncode == 2 and result.stdout.endswith("[yes/no] \n") and not (tmp_path / "to").exists()
    assert len(result.stderr.splitlines()) == 1 and "its terms are not accepted; nothing was fetched" in result.stderr


@pytest.mark.parametrize(("answer", "accepted"), [("yes", True), ("no", False), ("", False)])
def test_on_a_terminal_the_terms_are_a_question(server, source, tmp_path, monkeypatch, answer, accepted):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: answer)
    if accepted:
        download(source, tmp_path / "to")
        assert "For tests only." in (tmp_path / "to" / "TERMS.txt").read_text()
    else:
        with pytest.raises(BadInput, match="not accepted"):
            download(source, tmp_path / "to")
        assert not server.requests and not (tmp_path / "to").exists()


@pytest.mark.parametrize(("keep", "needed"), [(False, 27.4), (True, 41.0)])
def test_room_that_coco_needs(tmp_path, monkeypatch, keep, needed):
    """By hand: 0.04 + 0.14 and 0.25 + 0.10 GB, of which 0.24 (kept: 0.53) stay; then 13.51 + 13.60, of which 13.60 (27.11) stay; then 6.65 + 6.70."""
    coco = SOURCES["coco"]
    assert downloads._needed_bytes(tmp_path, coco.archives, keep) / GB == pytest.approx(needed, abs=0.05)
    free = (0, 0, int((needed - 0.1) * GB))
    monkeypatch.setattr("shutil.disk_usage", lambda place: type("Usage", (), dict(zip(("total", "used", "free"), free, strict=True))))
    with pytest.raises(BadInput, match=rf"coco needs {needed} GB more, {needed - 0.1:.1f} GB are free"):
        download(coco, tmp_path / "to", accepted=True, keep=keep)
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize(("keep", "fetched", "unpacked"), [(False, 17.11, 6.80), (True, 30.46, 20.15)])
def test_room_that_a_cut_coco_still_needs(tmp_path, keep, fetched, unpacked):
    """By hand. 10 GB of train2014.zip are there: 3.51 + 13.60 to go, then 6.65 + 6.70 in the room that 13.51 leave (kept: beside them).

    Then the whole archive and half of its photographs are: 6.80 to go, then 6.65 + 6.70 in the 13.51 - 6.80 that were freed (kept: beside 6.80).
    """
    archives, train = SOURCES["coco"].archives[2:], tmp_path / "archives" / "train2014.zip"
    train.parent.mkdir()
    train.with_name("train2014.zip.part").touch()
    train.with_name("train2014.zip.part.json").write_text(json.dumps({"done": [10**9] * 10}))
    assert downloads._needed_bytes(tmp_path, archives, keep) / GB == pytest.approx(fetched, abs=0.01)

    train.with_name("train2014.zip.part.json").unlink()
    train.with_name("train2014.zip.part").rename(train)
    (tmp_path / "train2014").mkdir()
    for sparse, size in ((train, archives[0].about_bytes), (tmp_path / "train2014" / "there.jpg", 68 * 10**8)):
        sparse.touch()
        os.truncate(sparse, size)  # no blocks on the disk
    sizes = {"train2014/there.jpg": 68 * 10**8, "train2014/gone.jpg": 68 * 10**8}
    train.with_name("train2014.zip.unpacking.json").write_text(json.dumps(sizes))
    assert downloads._needed_bytes(tmp_path, archives, keep) / GB == pytest.approx(unpacked, abs=0.01)


def test_room_is_what_the_server_says(server, source, tmp_path, monkeypatch):
    modest = replace(source, archives=tuple(replace(archive, about_bytes=1, about_unpacked=1) for archive in source.archives))
    monkeypatch.setattr("shutil.disk_usage", lambda place: type("Usage", (), {"free": 10_000}))
    server.files["/captions.zip"].content = NOISE
    with pytest.raises(BadInput, match=r"captions\.zip needs 300 KB more, 10 KB are free"):
        download(modest, tmp_path / "to", accepted=True)
    assert len(server.requests) == 1


def test_a_killed_unpacking_goes_on(source, tmp_path, monkeypatch):
    root, write, names = tmp_path / "to", unpacking._write, []

    def dying(opened, info, target):
        if len(names) == 4:  # the captions and three photos
            target.write_bytes(b"")  # what a power cut may leave
            raise KeyboardInterrupt
        names.append(target.name)
        write(opened, info, target)

    monkeypatch.setattr(unpacking, "_write", dying)
    with pytest.raises(KeyboardInterrupt):
        download(source, root, accepted=True)
    (root / "archives" / ".photos.zip.json.1.partial").touch()  # and a kill
    monkeypatch.setattr(unpacking, "_write", lambda opened, info, target: names.append(target.name) or write(opened, info, target))
    download(source, root)
    assert names == ["dataset_flickr8k.json", *(f"photo-{i}.jpg" for i in range(8))] and not list(root.rglob("*.partial"))


@pytest.mark.parametrize("name", ["../evil.jpg", "Photos/../../evil.jpg", "/evil.jpg", "Photos\\..\\..\\evil.jpg"])
def test_a_zip_that_points_out_of_itself(server, source, tmp_path, name):
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("Photos/photo-0.jpg", b"photo")
        archive.writestr(name, b"evil")
    server.files["/photos.zip"].content = (tmp_path / "evil.zip").read_bytes()
    evil = replace(source, archives=(source.archives[0], replace(source.archives[1], sha256="")))
    with pytest.raises(BadInput, match="lies outside"):
        download(evil, tmp_path / "to", accepted=True)
    assert not list(tmp_path.rglob("*evil.jpg")) and not (tmp_path / "to" / "Flicker8k_Dataset").exists()


def test_a_damaged_zip(server, source, tmp_path):
    content = bytearray(server.files["/photos.zip"].content)
    place = content.index((tmp_path / "made" / "images" / "photo-4.jpg").read_bytes()) + 100
    content[place] ^= 1
    for damaged, says in ((bytes(content), r"photo-4\.jpg in it is damaged"), (NOISE, "not a readable zip")):
        server.files["/photos.zip"].content = damaged
        unknown = replace(source, archives=(source.archives[0], replace(source.archives[1], sha256="")))
        root = tmp_path / f"to-{len(damaged)}"
        with pytest.raises(BadInput, match=says):
            download(unknown, root, accepted=True)
        assert not (root / "Flicker8k_Dataset" / "photo-4.jpg").exists()


def test_nothing_of_somebody_else_is_written_over(server, source, tmp_path):
    (tmp_path / "dataset_coco.json").write_text("{}")
    with pytest.raises(BadInput, match=r"another data set lies here \(dataset_coco\.json\)"):
        download(source, tmp_path, accepted=True)
    own = tmp_path / "to" / "dataset_flickr8k.json"
    own.parent.mkdir()
    own.write_text("{}")
    with pytest.raises(BadInput, match=r"1 files are not those of captions\.zip, like dataset_flickr8k\.json; move them away"):
        download(source, tmp_path / "to", accepted=True)
    assert own.read_text() == "{}"


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_images_behind_a_form(server, source, tmp_path, capsys, mode):
    """Without them the steps are printed; with the tar where they say, the same command ends well."""
    root = tmp_path / "to"
    form = replace(
        SOURCES["flickr30k"], archives=(replace(source.archives[0], members="dataset_flickr8k.json"),), captions="dataset_flickr8k.json"
    )
    with pytest.raises(BadInput, match="8 of 8 images are missing"):
        download(form, root, accepted=True)
    shown = capsys.readouterr().out
    assert "https://forms.illinois.edu/sec/229675" in shown and f"{root}/flickr30k-images.tar " in shown
    tar = root / ("flickr30k-images.tar" + (".gz" if mode == "w:gz" else ""))
    with tarfile.open(tar, mode) as archive:
        archive.add(tmp_path / "made" / "images", "flickr30k-images")
    if mode == "w:gz":
        (root / ".flickr30k-images.tar.1.partial").touch()  # by a killed unzipping: up to 4.4 GB
    requests = len(server.requests)
    download(form, root)
    assert len(server.requests) == requests and load_data(root).open_image(7).size == (40, 30) and not list(root.glob("*.partial"))
    assert json.loads((root / "archives" / "captions.zip.unpacked.json").read_text()).keys() == {"dataset_flickr8k.json"}
