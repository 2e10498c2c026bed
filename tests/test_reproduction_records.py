"""Records of runs, the paper's numbers, and the tables that put them side by side."""

import json
import re
import shutil

import numpy as np
import pytest

import score
from files import DataError
from reproduction import paper, records, tables

# The paper's lines as they stand in it: Tables 1 (by net), 2, 3, 4 and 5
PRINTED = {
    "table1": """FCN-AlexNet 39.8 50 8 57 355 32 | FCN-VGG16 56.0 210 16 134 404 32
        | FCN-GoogLeNet 42.5 59 22 6 907 32""",
    "table2": """FCN-32s-fixed 83.0 59.7 45.4 72.0 | FCN-32s 89.1 73.3 59.4 81.4 | FCN-16s 90.0 75.7 62.4 83.0
        | FCN-8s 90.3 75.9 62.7 83.2""",
    "table3": """R-CNN 47.9 - - | SDS 52.6 51.6 50 | FCN-8s 62.7 62.2 0.175""",
    "table4": """Gupta et al. 60.3 - 28.6 47.0 | FCN-32s RGB 60.0 42.2 29.2 43.9 | FCN-32s RGBD 61.5 42.4 30.5 45.5
        | FCN-32s HHA 57.1 35.2 24.2 40.4 | FCN-32s RGB-HHA 64.3 44.9 32.8 48.0
        | FCN-16s RGB-HHA 65.4 46.1 34.0 49.5""",
    "table5": """Liu et al. 76.7 - - - - | Tighe et al. - - - - 90.8 | Tighe et al. 1 75.6 41.1 - - -
        | Tighe et al. 2 78.6 39.2 - - - | Farabet et al. 1 72.3 50.8 - - - | Farabet et al. 2 78.5 29.6 - - -
        | Pinheiro et al. 77.7 29.8 - - - | FCN-16s 85.2 51.7 39.5 76.1 94.3""",
}
HIST = np.array([[50, 5, 0], [10, 30, 0], [0, 0, 0]])  # class 2 does not occur
RUN = {
    **{
        "command": "python reproduce.py table2 --data toy",
        "commit": "0" * 40,
        "dirty": False,
        "versions": {},
    },
    **{
        "seeds": [1, 2],
        "device": "cpu",
        "machine": "a processor, 2 cores",
        "date": "2026-01-01",
        "seconds": 3.0,
    },
}


def record(rows, data="toy", target="table2", **more):
    return records.make(target, data, rows, RUN, **more)


@pytest.fixture
def written(tmp_path):
    """A record of two seeds in a file, and that file."""
    rows = [
        records.row("FCN-32s", HIST + seed, seed=seed, directory="voc-fcn32s", times={"mean_ms": 1.5})
        for seed in (1, 2)
    ]
    claim = records.conclusion("16s beats 32s", {1: ({"16s": np.float32(0.5), "32s": 0.25}, np.True_)})
    content = record(rows, conclusions=[claim])
    return content, records.write(tmp_path, content)


def rewrite(path, change, sealed=True):
    """Edit the record in ``path``; ``sealed``: with the checksum that fits."""
    content = json.loads(path.read_text())
    change(content)
    if sealed:
        content["checksum"] = records._checksum(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("name", PRINTED)
def test_the_papers_numbers(name):
    table, lines = paper.TABLES[name], PRINTED[name].split("|")
    assert len(table.rows) == len(lines)
    for row, line in zip(table.rows, lines, strict=True):
        words = line.split()
        values = words[-len(table.columns) :]
        assert row.name == " ".join(words[: -len(values)])
        assert row.values == tuple(None if value == "-" else float(value) for value in values)
    assert not {row.directory for row in table.rows if row.directory} - {
        path.parent.name for path in records.ROOT.glob("*/solve.py")
    }


def test_released_numbers_agree_with_the_authors():
    for row in paper.TABLE2.rows:
        if row.released:
            assert f"{row.released[2]:.1f}" == f"{paper.RELEASED[row.directory]:.1f}"
    assert paper.mean_iu("voc-fcn-alexnet") == (48.0, "section 4.1")
    assert paper.mean_iu("voc-fcn-googlenet") == (42.5, "Table 1")
    assert paper.mean_iu("voc-fcn32s") == (59.4, "Table 2")
    assert paper.mean_iu("siftflow-fcn16s") == (39.5, "Table 5")
    assert paper.mean_iu("mini-fcn8s") == (None, "")


def test_a_record_is_read_as_it_was_written(written):
    content, path = written
    assert path.name == "table2.json"
    assert records.read(path) == content
    row, scores = content["rows"][0], score.Scores(HIST + 1)
    assert row["metrics"]["skip"] == pytest.approx(scores.metrics("skip"))
    assert row["metrics"]["zero"] == pytest.approx(scores.metrics("zero"))
    text = path.read_text()
    assert list(json.loads(text)) == list(records.KEYS)
    assert "[51, 6, 1]" in text  # a row of the matrix is one line
    assert records.write(path.parent / "again", content).read_text() == text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda r: r["rows"][1]["metrics"]["skip"].update({"mean IU": 0.9}),
            r"rows\[1\] \(FCN-32s\).*mean IU is 0.9",
        ),
        (lambda r: r["rows"][0]["confusion"][0].__setitem__(0, 60), r"rows\[0\].*pixel accuracy is"),
        (lambda r: r["rows"][0]["confusion"].pop(), "confusion is no square matrix"),
        (lambda r: r["rows"][0].update(confusion=[[1, 2, 3], [4]]), "confusion is no square matrix"),
        (lambda r: r["rows"][0].update(confusion=7), "confusion is no square matrix"),
        (lambda r: r["rows"][0]["confusion"][0].__setitem__(0, 5.0), "confusion is no square matrix"),
        (lambda r: r["rows"][0].update(times=[]), r"times is \[\]; it must be an object"),
        (lambda r: r["rows"][0].update(metrics={"skip": {}}), "metrics lacks zero"),
        (lambda r: r["rows"][0].update(confusion=None), "no confusion matrix beside"),
        (lambda r: r["rows"][0].pop("seed"), r"rows\[0\] lacks seed"),
        (lambda r: r.pop("weights"), "it lacks weights"),
        (lambda r: r.update(data="other"), "data is 'other'; it must be real or toy"),
        (lambda r: r.update(rows={}), "rows is {}; it must be a list"),
        (lambda r: r["run"].pop("machine"), "run lacks machine"),
        (lambda r: r.update(run=3), "run is 3; it must be an object"),
        (lambda r: r["conclusions"][0].pop("unit"), r"conclusions\[0\] lacks unit"),
    ],
)
def test_a_wrong_record_is_refused(written, change, said):
    rewrite(written[1], change)
    with pytest.raises(DataError, match=said) as error:
        records.read(written[1])
    assert str(written[1]) in str(error.value)
    assert "run its command again" in str(error.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r["rows"][0]["times"].update(mean_ms=1.0),
        lambda r: r["conclusions"][0]["seeds"][0].update(holds=False),
        lambda r: r["run"].update(machine="a faster one"),
        lambda r: r["rows"][1]["metrics"]["skip"].update({"mean IU": 0.9}),
    ],
)
def test_an_edited_record_is_found_out(written, change):
    rewrite(written[1], change, sealed=False)
    with pytest.raises(DataError, match="checksum does not fit the rest"):
        records.read(written[1])


@pytest.mark.parametrize("content", ["", "{", "[]", "7"])
def test_a_file_that_is_no_record(tmp_path, content):
    path = tmp_path / "table2.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"table2\.json"):
        records.read(path)
    with pytest.raises(DataError, match="No such file"):
        records.read(tmp_path / "other.json")


def test_differences_are_told_times_aside(written):
    a = written[0]
    b = json.loads(json.dumps(a))
    b["run"]["seconds"], b["run"]["machine"], b["rows"][0]["times"]["mean_ms"] = 99, "another", 7.0
    assert records.differences(a, b) == []
    b["rows"][1]["confusion"][0][0] += 1
    b["conclusions"][0]["seeds"][0]["values"]["16s"] = 0.125
    assert records.differences(a, b) == [
        "conclusions[0].seeds[0].values.16s: 0.5, 0.125",
        "rows[1].confusion[0][0]: 52, 53",
    ]
    del b["rows"][1]
    assert any(line.startswith("rows: ") for line in records.differences(a, b))
    timed = [
        record([], conclusions=[records.conclusion("faster", {1: ({"s": s}, True)}, timed=True)])
        for s in (1, 2)
    ]
    assert records.differences(*timed) == []


def test_environment(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", [str(records.ROOT / "reproduce.py"), "table2", "--data", "toy", "a b"])
    run = records.environment(seeds=(1, 2), seconds=12.345)
    assert set(run) == set(records.RUN)
    assert run["command"] == "python reproduce.py table2 --data toy 'a b'"
    assert (run["device"], run["seeds"], run["seconds"]) == ("cpu", [1, 2], 12.3)
    assert re.fullmatch(r".+, \d+ cores", run["machine"])
    assert run["versions"]["numpy"] == np.__version__
    if shutil.which("git") and (records.ROOT / ".git").exists():
        assert re.fullmatch("[0-9a-f]{40}", run["commit"]) and run["dirty"] in (True, False)
    monkeypatch.setattr(records, "ROOT", tmp_path)
    assert records.environment()["commit"] is None


def test_the_paper_beside_ours_over_seeds():
    def matrix(right):
        return [[right, 100 - right], [100 - right, right]]

    rows = [records.row("FCN-32s", matrix(right), seed=seed) for seed, right in ((1, 80), (2, 90))]
    rows += [records.row("no skip", matrix(50), seed=1, command="python other.py")]
    grid = tables.beside(paper.TABLE2, [record(rows)])
    lines, current = {}, ""
    for net, whose, *cells in grid.rows:
        current = net or current
        lines[current, whose] = cells
    assert lines["FCN-32s", "paper"] == ["89.1", "73.3", "59.4", "81.4", ""]
    assert lines["FCN-32s", "released"][2] == "63.6"
    ours = lines["FCN-32s", "ours, in miniature, synthetic scenes"]
    # 80 of 100 right: IU 80 / 120; 90: 90 / 110
    assert ours[0] == "85.0 (80.0–90.0)"
    assert ours[2] == "74.2 (66.7–81.8)"
    assert ours[4] == "`python reproduce.py table2 --data toy`"
    assert lines["no skip", "ours, in miniature, synthetic scenes"][4] == "`python other.py`"
    assert lines["FCN-16s", "ours"] == [""] * 5  # nothing was run
    assert [whose for _, whose, *_ in grid.rows].count("ours, in miniature, synthetic scenes") == 2
    assert "not the percentages" in grid.text() and "not the percentages" in grid.markdown()
    assert "not the percentages" not in tables.beside(paper.TABLE2, [record(rows, "real")]).text()
    assert "seeds 1, 2" in grid.text()
    widths = {len(line.split("|")) for line in grid.markdown().splitlines() if line.startswith("|")}
    assert widths == {len(grid.header) + 2}


def test_scored_released_weights_are_not_ours():
    grid = tables.beside(paper.TABLE2, [record([records.row("FCN-8s", HIST)], "real", weights="released")])
    said = "released, scored here"
    assert [whose for _, whose, *_ in grid.rows[-2:]] == [said, f"{said}; absent classes as 0"]
    assert not any(any(cells) for _, whose, *cells in grid.rows if whose.startswith("ours"))


def test_table5_has_both_conventions_and_the_other_head():
    rows = [
        records.row("FCN-16s", HIST, head="score_sem"),
        records.row("FCN-16s", [[9, 1], [0, 10]], head="score_geo"),
    ]
    grid = tables.beside(paper.TABLE5, [record(rows, "real", "table5")], others=False)
    (_, *printed), (_, *ours), (_, *zero) = grid.rows
    skip_iu, zero_iu = (100 * score.mean_iu(HIST, absent) for absent in ("skip", "zero"))
    assert printed[1:6] == ["85.2", "51.7", "39.5", "76.1", "94.3"]
    assert (ours[0], zero[0]) == ("ours", "ours; absent classes as 0")
    assert (ours[3], ours[5]) == (f"{skip_iu:.1f}", "95.0")
    assert zero[3] == f"{zero_iu:.1f}" == f"{skip_iu * 2 / 3:.1f}"


def test_table1_names_the_machine():
    facts = {"conv layers": 8, "parameters": 57_000_123, "rf size": 355, "max stride": 32}
    rows = [records.row("FCN-AlexNet", facts=facts, times={"mean_ms": 12.3}, directory="voc-fcn-alexnet")]
    grid = tables.beside(paper.TABLE1, [record(rows, "real", "table1")])
    ours = grid.rows[1]
    assert ours[1:] == [
        *("ours; a processor, 2 cores", "", "12.3 ms", "8", "57M", "355", "32", f"`{RUN['command']}`"),
    ]
    assert "Tesla K40c" in grid.text()
    assert tables.beside(paper.TABLE1, [record(rows, "toy", "table1")]) == grid  # the same nets, no miniature


def test_overview_has_a_line_for_each_net():
    rows = [records.row(name, HIST, seed=1) for name in ("FCN-32s", "from scratch")]
    grid = tables.overview(paper.TABLE2, record(rows))
    lines = {name: cells for name, *cells in grid.rows}
    iu = f"{100 * score.mean_iu(HIST):.1f}"
    assert grid.header[:3] == ["net", "mean IU, paper", "mean IU, in miniature"]
    assert lines["FCN-32s"][:2] == ["59.4", iu]
    assert lines["from scratch"][:2] == ["", iu]
    assert lines["FCN-8s"] == ["62.7", "", "", "", ""]
    assert "a processor, 2 cores" in grid.text()


def test_conclusions_are_told_seed_by_seed():
    seeds = {1: ({"16s": 0.5, "32s": 0.25}, True), 3: ({"16s": 0.2, "32s": 0.25}, False)}
    more = records.conclusion("fast", {2: ({"ratio": 5.4321}, True)}, unit="times", timed=True, paper="5")
    grid = tables.conclusions([record([], conclusions=[records.conclusion("16s > 32s", seeds), more])])
    assert grid.header == ["conclusion", "paper", "seed 1", "seed 2", "seed 3"]
    assert grid.rows == [
        ["16s > 32s", "", "16s 50.0, 32s 25.0: holds", "", "16s 20.0, 32s 25.0: DOES NOT HOLD"],
        ["fast", "5", "", "ratio 5.43 times: holds", ""],
    ]
