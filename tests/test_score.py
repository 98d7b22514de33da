"""`python -m captioning.score` as a user runs it: every layout, one JSON object, every bad input, any locale, nothing written elsewhere."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from captioning.bad_input import BadInput
from captioning.java import coco_folder
from captioning.score import main

ROOT = Path(__file__).parent.parent
REFERENCES = {"1": ["A brown dog runs.", "The dog is running on grass."], "2": ["Two kids ride a bike.", "Children on a red bike."]}
CAPTIONS = {"1": "a dog is running on the grass", "2": "two children ride a red bike"}
QUICK = ["--metrics", "BLEU,ROUGE-L,CIDEr", "--draws", "200"]  # METEOR loads for ten seconds


@pytest.fixture
def files(tmp_path):
    def write(name, content):
        (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return str(tmp_path / name)

    write("c.json", CAPTIONS)
    write("r.json", REFERENCES)
    write.folder, write.both = tmp_path, [str(tmp_path / "c.json"), str(tmp_path / "r.json")]
    return write


def run(arguments, **environment):
    own = {name: value for name, value in os.environ.items() if name not in environment} | environment
    return subprocess.run(
        [sys.executable, "-m", "captioning.score", *arguments], cwd=ROOT, env=own, capture_output=True, text=True, encoding="utf-8"
    )


def scores(capsys, arguments) -> dict:
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_one_object_in_any_locale_without_a_path_and_nothing_written_to_the_package(files):
    """The whole thing once, with METEOR, in a process of its own, in the letters and the locale of somebody else."""
    files("c.json", CAPTIONS | {"2": "two children ride a red bıke İI\u2028 😀"})
    package = coco_folder("meteor").parent
    before = {path: path.stat().st_mtime_ns for path in package.rglob("*")}
    hostile = {"PATH": "", "LC_ALL": "tr_TR.UTF-8", "JAVA_TOOL_OPTIONS": "-Duser.language=tr -Dfile.encoding=ISO-8859-9"}
    turkish = run([*files.both, "--json"], **hostile)
    assert turkish.returncode == 0, turkish.stderr
    found = json.loads(turkish.stdout)
    assert list(found) == ["protocol", "signature", "n_images", "scores", "intervals", "not_available"]
    assert list(found["scores"]) == ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr"]
    assert "stanford-corenlp" in found["not_available"]["SPICE"]
    plain = json.loads(run([*files.both, "--json", "--metrics", "BLEU,ROUGE-L,CIDEr"], LC_ALL="C", PYTHONUTF8="0").stdout)
    assert {name: found["scores"][name] for name in plain["scores"]} == plain["scores"]
    after = {path: path.stat().st_mtime_ns for path in package.rglob("*")}
    assert {path: time for path, time in after.items() if "__pycache__" not in str(path)} == {
        path: time for path, time in before.items() if "__pycache__" not in str(path)
    }


def test_help_shows_how(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    text = capsys.readouterr().out
    assert end.value.code == 0 and "python -m captioning.score captions.json captions_val2014.json" in text and "95 % intervals" in text


def test_no_torch_is_needed():
    program = (
        "import sys; import captioning.score, captioning.protocols; sys.exit(any(m in sys.modules for m in ('torch', 'nltk', 'pandas')))"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0


def test_layouts_agree(files, capsys):
    karpathy = [
        {"filename": f"{i}.jpg", "split": "test", "sentences": [{"raw": c, "tokens": c.lower().strip(".").split()} for c in own]}
        for i, own in REFERENCES.items()
    ]
    candidates = [
        files("c.json", CAPTIONS),
        files("list.json", [{"image_id": int(i), "caption": c} for i, c in CAPTIONS.items()]),
        files("c.jsonl", "\n".join(json.dumps({"id": i, "caption": c}) for i, c in CAPTIONS.items())),
        files("names.json", {f"{i}.jpg": c for i, c in CAPTIONS.items()}),
    ]
    coco = {"images": [{"id": int(i), "file_name": f"{i}.jpg"} for i in REFERENCES]}
    coco["annotations"] = [{"image_id": int(i), "caption": c} for i, own in REFERENCES.items() for c in own]
    references = [
        files("r.json", REFERENCES),
        files("coco.json", coco),
        files("karpathy.json", {"images": karpathy, "dataset": "x"}),
        files("r.jsonl", "\n".join(json.dumps({"id": i, "references": own}) for i, own in REFERENCES.items())),
    ]
    pairs = [(candidate, references[1]) for candidate in candidates] + [(candidates[0], reference) for reference in references]
    lines = files("c.txt", "\n".join(CAPTIONS.values())), files("r.txt", "\n".join("\t".join(own) for own in REFERENCES.values()))
    found = [scores(capsys, [*pair, *QUICK])["scores"] for pair in [*pairs, lines]]
    assert all(one == found[0] for one in found) and len(found) == 9
    free = [scores(capsys, [candidates[0], reference, "--protocol", "free"]) for reference in references]
    assert all(one["scores"] == free[0]["scores"] for one in free)
    assert "|tok:a-z0-9,refs-dataset|" in free[2]["signature"] and "|split:test|" in free[2]["signature"]
    assert "|tok:a-z0-9|" in free[0]["signature"]


def test_table_per_image_and_comparison(files, capsys):
    other = files("other.json", {"1": "a cat", "2": CAPTIONS["2"]})
    table = str(files.folder / "images.csv")
    assert main([*files.both, *QUICK, "--compare", other, "--per-image", table]) == 0
    text = capsys.readouterr().out
    assert "2 images, protocol coco" in text and "difference" in text and "coco|split:?|" in text
    with open(table, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["id"], row["caption"]) for row in rows] == list(CAPTIONS.items())
    both = scores(capsys, [*files.both, *QUICK, "--compare", other])
    assert both["differences"]["CIDEr"]["difference"] == pytest.approx(both["scores"]["CIDEr"] - both["other"]["scores"]["CIDEr"])
    assert np_mean(rows, "CIDEr") == pytest.approx(both["scores"]["CIDEr"], abs=1e-5)
    low, high = both["differences"]["BLEU-1"]["interval"]
    assert low <= both["differences"]["BLEU-1"]["difference"] <= high


def np_mean(rows, column):
    return sum(float(row[column]) for row in rows) / len(rows)


def test_empty_captions_are_scored_and_counted(files, capsys):
    files("c.json", CAPTIONS | {"2": ""})
    assert main([*files.both, *QUICK, "--json"]) == 0
    output = capsys.readouterr()
    assert json.loads(output.out)["n_images"] == 2
    assert "1 empty captions are scored as they are (first: 2)" in output.err


@pytest.mark.parametrize(
    "captions, arguments, says",
    [
        ({"1": "a"}, [], "1 images of .*r.json have no caption in .*c.json .first: 2.*--subset"),
        (CAPTIONS | {"9": "a", "8": "b"}, [], "2 captions of .*c.json have no image in .*r.json .first: 9, 8.*--subset"),
        ({"9": "a"}, ["--subset"], "no image in common .ids like '9' and '1'"),
        (CAPTIONS, ["--metrics", "BLEU,CIDER"], "--metrics 'CIDER': choose from BLEU"),
        (CAPTIONS, ["--draws", "-1"], "--draws -1"),
        ("a dog\n", [], "lines have no image ids"),
    ],
)
def test_what_cannot_be_scored(files, captions, arguments, says):
    files("c.json", captions) if captions != "a dog\n" else files("c.txt", captions)
    both = files.both if captions != "a dog\n" else [str(files.folder / "c.txt"), files.both[1]]
    with pytest.raises(BadInput, match=says):
        main([*both, *arguments])


def test_lines_must_be_as_many(files):
    with pytest.raises(BadInput, match="c.txt has 1 lines, .*r.txt has 2"):
        main([files("c.txt", "a"), files("r.txt", "a\nb\tc")])


def test_subset_scores_what_both_have(files, capsys):
    files("c.json", {"1": CAPTIONS["1"], "9": "a"})
    assert main([*files.both, *QUICK, "--subset", "--json"]) == 0
    output = capsys.readouterr()
    assert json.loads(output.out)["n_images"] == 1
    assert "1 images scored; 1 without a caption and 1 without references left out" in output.err


def test_bad_input_is_one_line_and_status_2(files):
    found = run([str(files.folder / "none.json"), files.both[1]])
    assert found.returncode == 2 and found.stdout == ""
    assert found.stderr.count("\n") == 1 and "none.json: no such file" in found.stderr


def test_java_that_cannot_start_is_status_3_and_stands_in_the_json(files):
    found = run([*files.both, "--json"], RECAP_JAVA="/nowhere/java")
    assert found.returncode == 3 and "nothing scored: the PTB tokenizer needs Java" in found.stderr
    result = json.loads(found.stdout)
    assert result["scores"] == {} and len(result["not_available"]) == 8
    assert run([*files.both, "--json", "--protocol", "free"], RECAP_JAVA="/nowhere/java").returncode == 0


def test_what_only_coco_knows_is_refused_under_free(files):
    for more in (["--metrics", "CIDEr"], ["--spice-models", "somewhere"]):
        with pytest.raises(BadInput, match="settings of --protocol coco; free has BLEU alone"):
            main([*files.both, "--protocol", "free", *more])
