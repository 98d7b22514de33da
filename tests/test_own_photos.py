"""README's section "Train on your own photos" and its lines of Python, run as they stand there on a folder of drawn photos; only sizes are smaller."""

import csv
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

import caption
import train
from captioning import data
from captioning.bad_input import run_command
from tests.tiny import COLOURS, flags

README = Path(__file__).resolve().parents[1] / "README.md"
COMMANDS = {"captioning.data": data.main, "train.py": train.main, "caption.py": caption.main}


@pytest.fixture(scope="module")
def section() -> dict[str, str]:
    """Language -> the section's block in it, and README's first block of Python."""
    text = README.read_text(encoding="utf-8")
    section = text.partition("## Train on your own photos\n")[2].partition("\n## ")[0]
    blocks = dict(re.findall(r"```(\w+)\n(.*?)```", section, re.DOTALL))
    return blocks | {"python": re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]}


@pytest.fixture
def folder(tmp_path, monkeypatch, section) -> Path:
    """my-photos as the section's table begins, and a dozen more."""
    photos = tmp_path / "my-photos"
    photos.mkdir()
    rows = list(csv.reader(section["text"].strip().splitlines()))
    assert rows[0] == ["image", "caption"] and len(rows) == 3
    rows += [[f"{n}.jpg", f"{article} {list(COLOURS)[n % 4]} wall"] for n in range(12) for article in ("a", "the")]
    for name in {image for image, _ in rows[1:]}:
        Image.new("RGB", (80, 60), COLOURS[list(COLOURS)[sum(map(ord, name)) % 4]]).save(photos / name)
    with open(photos / "captions.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECAP_CACHE", str(tmp_path / "cache"))
    return photos


def test_the_walk_from_a_folder_to_captions(section, folder, monkeypatch, capsys):
    said = []
    for line in section["bash"].splitlines():
        python, *words = shlex.split(line, comments=True)
        words = words[1:] if words[0] == "-m" else words
        if words[0] == "train.py":
            words += [*flags(), "--workers", "0", "--device", "cpu"]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as left:
            run_command(COMMANDS[words[0]])
        out = capsys.readouterr()
        said.append(out.out)
        assert python == "python" and left.value.code == 0, out.err
    assert "images opened: 13, broken: 0" in said[0] and "checkpoint: my-captioner" in said[1]
    with open("captions.csv", encoding="utf-8", newline="") as file:
        captions = {row["image"]: row["caption"] for row in csv.DictReader(file)}
    assert len(captions) == 13

    shutil.copy("my-photos/beach.jpg", "photo.jpg")
    exec(section["python"], {})
    text, _, score = capsys.readouterr().out.strip().rpartition(" ")
    assert text == captions["my-photos/beach.jpg"] and float(score) <= 0
