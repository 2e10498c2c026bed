"""Every table of the README is what its records give; none can be edited, there or in a record."""

import json
import re
import shutil

import pytest
from test_reproduction_records import HIST, RUN

from files import DataError
from reproduction import readme, records, sources

TEXT = readme.README.read_text(encoding="utf-8")


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A folder of results with two recorded machines: table 2 and a conclusion in miniature, table 1, a real net."""
    monkeypatch.setattr(readme, "RESULTS", tmp_path)
    monkeypatch.setattr(readme, "RECORDED", ("first", "second"))
    claim = records.conclusion("16s beats 32s", {1: ({"16s": 0.5, "32s": 0.25}, True)})
    toy = [records.row("FCN-32s", HIST + seed, seed=seed, directory="voc-fcn32s") for seed in (1, 2)]
    net = records.row("FCN-AlexNet", facts={"conv layers": 8}, times={"mean_ms": 12.3})
    rows = [
        records.row("FCN-16s", HIST, directory="siftflow-fcn16s", head="score_sem"),
        records.row("FCN-16s", HIST.T, directory="siftflow-fcn16s", head="score_geo"),
    ]
    records.write(tmp_path / "first", records.make("table2", "toy", toy, RUN, conclusions=[claim]))
    records.write(tmp_path / "first", records.make("table1", "real", [net], RUN))
    records.write(tmp_path / "second", records.make("table1", "real", [net], RUN | {"machine": "a GPU"}))
    records.write(tmp_path / "second", records.make("table5", "real", rows, RUN))
    return tmp_path


@pytest.fixture
def page(tmp_path, results):
    """A README made of those results."""
    path = tmp_path / "README.md"
    shutil.copyfile(readme.README, path)
    readme.main(path)
    return path


def test_every_table_is_what_its_records_give():
    assert readme.check() == []


def test_every_model_directory_is_in_the_table_of_nets():
    named = [name for cell in readme.NETS for name in readme.directories(cell)]
    assert sorted(named) == sorted(path.parent.name for path in readme.ROOT.glob("*/solve.py"))


def test_tables_are_made_of_records(page, capsys):
    assert readme.check(page) == []
    blocks = dict(readme.blocks(page.read_text()))
    assert "| FCN-32s | 59.4 | 5" in blocks["table2-toy"] and "in miniature" in blocks["table2-toy"]
    assert "16s 50.0, 32s 25.0: holds" in blocks["conclusions-toy"]
    assert "ours; a processor, 2 cores | | 12.3 ms" in blocks["table1"] and "ours; a GPU" in blocks["table1"]
    line = next(line for line in blocks["nets"].splitlines() if "`siftflow-fcn16s` " in line)
    assert re.search(r"\| \| 71\.8 \|$", line)  # of the semantic head
    line = next(line for line in blocks["nets"].splitlines() if "`voc-fcn32s` " in line)
    assert line.endswith("| 59.4 | 63.6 | |")  # what was scored in miniature is not the net's
    before = page.read_text()
    readme.main(page)
    assert page.read_text() == before
    assert "up to date" in capsys.readouterr().out


def test_scored_released_weights_stand_in_their_column(results, page):
    rows = [records.row("FCN-8s", HIST, directory="voc-fcn8s")]
    records.write(results / "first", records.make("table2", "real", rows, RUN, weights="released"))
    line = next(line for line in readme.TABLES["nets"]().splitlines() if "`voc-fcn8s` " in line)
    assert re.search(r"\| 62\.7 \| 65\.5 \(scored here: 7\d\.\d\) \| \|$", line)


def test_a_missing_record_is_noticed(results, page):
    (results / "first" / "table2.json").unlink()
    assert readme.check(page) == [
        f"table {name} is not what its records give: python reproduce.py readme"
        for name in ("table2-toy", "conclusions-toy")
    ]
    assert "Not recorded yet" in readme.made(page.read_text())


def test_an_edited_record_is_noticed(results, page):
    path = results / "second" / "table1.json"
    content = json.loads(path.read_text())
    content["rows"][0]["times"]["mean_ms"] = 1.0
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"second/table1.json: checksum"):
        readme.check(page)


def test_another_record_is_noticed(results, page):
    rows = [records.row("FCN-32s", HIST, seed=1)]
    records.write(results / "first", records.make("table2", "toy", rows, RUN))
    assert len(readme.check(page)) == 2


def test_runs_of_ones_own_change_nothing(results, page):
    rows = [records.row("FCN-8s", HIST, directory="voc-fcn8s")]
    records.write(results / "mine", records.make("table2", "real", rows, RUN))
    records.write(results / "first", records.make("table2-again", "toy", rows, RUN))
    assert readme.check(page) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("| momentum | 0.9 |", "| momentum | 0.8 |", "table recipes is not what"),
        ("| 59.4 | 63.6 |", "| 59.4 | 64.6 |", "table nets is not what"),
        ("<!-- table: parity -->\n", "", "a table has no marker: | compared"),
        ("<!-- table: bench -->", "<!-- table: benches -->", "a table is marked benches"),
        ("| FCN-32s | `cd", "| FCN-32s in 3 days | `cd", "marked none has numbers"),
        (
            "\nBSD-2-Clause.",
            "\nnet | mean IU\n---|---\nFCN-8s | 70.1\n\nBSD-2-Clause.",
            "a table has no marker",
        ),
        ("\nBSD-2-Clause.", "\n<table><tr><td>70.1</table>\n\nBSD-2-Clause.", "a table has no marker"),
    ],
)
def test_an_edited_readme_is_noticed(tmp_path, old, new, said):
    path = tmp_path / "README.md"
    assert old in TEXT
    path.write_text(TEXT.replace(old, new, 1), encoding="utf-8")
    assert any(line.startswith(said) or said in line for line in readme.check(path))


def test_a_table_that_is_gone_is_noticed(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(re.sub(r"<!-- table: nets -->.*?<!-- end -->", "", TEXT, flags=re.DOTALL))
    assert readme.check(path) == ["there is no table nets"]


def test_a_lost_end_does_not_cost_the_text_after_it():
    start = TEXT.index("<!-- end -->", TEXT.index("<!-- table: nets -->"))
    broken = TEXT[:start] + TEXT[start:].replace("<!-- end -->\n", "", 1)
    assert readme.made(broken) == broken
    assert any("`voc-fcn8s`" in line for line in readme.unmarked(broken))


def test_an_unknown_table_is_refused():
    with pytest.raises(DataError, match="a table 'other'; there are recipes"):
        readme.made("<!-- table: other -->\n<!-- end -->")


def test_a_lost_measurement_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(sources, "BENCH", tmp_path / "bench.csv")
    with pytest.raises(DataError, match=r"bench.csv cannot be read"):
        sources.bench()
    monkeypatch.setattr(sources, "PARITY", tmp_path / "last.md")
    lines = readme.ROOT.joinpath("tests/parity/last.md").read_text().splitlines()
    sources.PARITY.write_text("\n".join(line for line in lines if not line.startswith("| data layers")))
    with pytest.raises(DataError, match="no row 'data layers'"):
        sources.parity()


def test_numbers_follow_their_sources(monkeypatch, tmp_path):
    monkeypatch.setattr(sources, "PARITY", tmp_path / "last.md")
    text = readme.ROOT.joinpath("tests/parity/last.md").read_text()
    sources.PARITY.write_text(text.replace("| Tile | 4 | 0.0e+00 |", "| Tile | 5 | 9.0e-05 |"))
    assert "gradients | 484 | 9e-5 | 1e-4 |" in sources.parity()
    assert [sources.scientific(value) for value in (1e-4, 4.8e-6, 0, 1e-14)] == [
        "1e-4",
        "4.8e-6",
        "0",
        "1e-14",
    ]
    assert [sources._two(value) for value in ("0.565", "0.564", "1.743")] == ["0.57", "0.56", "1.74"]
