"""Records: what is written is read back; whatever is half written, foreign or wrong is named and never trusted."""

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioning.bad_input import BadInput
from captioning.records import list_records, read_plan, read_record, write_plan, write_record
from tests.made_up_records import add_failed, make_results


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    return make_results(tmp_path_factory.mktemp("results"), names=("convnext",), images=4, photos=False)[0]


def test_a_written_record_is_read_back_and_is_plain_json(record, tmp_path):
    path = write_record(tmp_path, record)
    assert path == tmp_path / f"{record['run_id']}.json"
    assert read_record(path) == record == json.loads(path.read_text(encoding="utf-8"))
    assert list(tmp_path.iterdir()) == [path]


def test_every_beginning_of_a_record_is_a_problem_and_no_record(record, tmp_path):
    path = write_record(tmp_path, record)
    whole = path.read_bytes()
    for length in [*range(0, len(whole) - 2, 97), len(whole) - 3]:
        path.write_bytes(whole[:length])
        records, problems = list_records(tmp_path)
        assert records == [] and len(problems) == 1 and path.name in problems[0] and "\n" not in problems[0]


def drop(field):
    return lambda record: record.pop(field)


def put(*path_and_value):
    *path, last, value = path_and_value

    def change(record):
        for step in path:
            record = record[step]
        record[last] = value

    return change


FREE = ("scores", "val", "free", "5")
WRONG = {
    "another schema": put("schema", 2),
    "no schema": drop("schema"),
    "schema that only equals one": put("schema", True),
    "another run's content": put("run_id", "other-0-0000000000"),
    "no scores": drop("scores"),
    "label no text": put("label", None),
    "unknown status": put("status", "running"),
    "failed without a reason": put("status", "failed"),
    "no experiment": put("experiments", []),
    "score no number": put(*FREE, "scores", "BLEU-4", "31"),
    "score true": put(*FREE, "scores", "BLEU-4", True),
    "interval with one end": put(*FREE, "intervals", "BLEU-4", [3.0]),
    "no signature": put(*FREE, "signature", None),
    "reason no text": put(*FREE, "not_available", "SPICE", 0),
    "beams no object": put("scores", "val", "free", [1]),
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG.keys())
def test_what_breaks_the_schema_is_named(change, record, tmp_path):
    path = write_record(tmp_path, record)
    changed = copy.deepcopy(record)
    change(changed)
    path.write_text(json.dumps(changed), encoding="utf-8")
    with pytest.raises(BadInput, match=path.name):
        read_record(path)
    if changed.get("run_id") == record["run_id"]:
        with pytest.raises(ValueError):
            write_record(tmp_path / "new", changed)


def test_no_infinite_score_is_written_or_read(record, tmp_path):
    changed = copy.deepcopy(record)
    changed["scores"]["val"]["free"]["5"]["scores"]["BLEU-4"] = float("nan")
    with pytest.raises(ValueError):
        write_record(tmp_path, changed)
    path = tmp_path / f"{record['run_id']}.json"
    path.write_text(json.dumps(changed), encoding="utf-8")
    with pytest.raises(BadInput):
        read_record(path)


@settings(max_examples=60, deadline=None)
@given(
    junk=st.one_of(
        st.binary(max_size=40),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(max_size=5),
            lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=8), x, max_size=3),
        ).map(  # fmt: skip
            lambda content: json.dumps(content).encode()
        ),
    )
)
def test_junk_is_a_problem_and_never_an_exception(junk, tmp_path_factory):
    folder = tmp_path_factory.mktemp("junk")
    (folder / "a-0-0.json").write_bytes(junk)
    records, problems = list_records(folder)
    assert records == [] and len(problems) == 1


def test_a_list_passes_over_curves_and_files_being_written_and_keeps_failed_runs(tmp_path):
    make_results(tmp_path, names=("resnet", "convnext"), images=4, photos=False)
    failed = add_failed(tmp_path, "demo", "vgg", "no weights")
    runs = tmp_path / "demo" / "runs"
    (runs / ".x-0-0.json.123.partial").write_text("{")
    (runs / ".hidden.json").write_text("{")
    records, problems = list_records(runs)
    assert problems == []
    assert [record["finished"] for record in records] == sorted(record["finished"] for record in records)
    assert failed in records and len(records) == 3
    assert list_records(tmp_path / "nowhere") == ([], [])


def test_a_directory_named_like_a_record_is_a_problem(tmp_path):
    (tmp_path / "a-0-0.json").mkdir()
    records, problems = list_records(tmp_path)
    assert records == [] and "a-0-0.json" in problems[0]


def test_plan_is_read_back_and_a_broken_one_named(tmp_path):
    assert read_plan(tmp_path) == []
    runs = [{"run_id": "a-0-1", "name": "a", "label": "A", "experiments": ["encoders"]}]
    path = write_plan(tmp_path, runs)
    assert read_plan(tmp_path) == runs
    for broken in ("{", "[]", '{"schema": 1}', '{"schema": 9, "runs": []}', '{"schema": 1, "runs": [{"run_id": 3}]}'):
        path.write_text(broken, encoding="utf-8")
        with pytest.raises(BadInput, match="plan.json"):
            read_plan(tmp_path)
