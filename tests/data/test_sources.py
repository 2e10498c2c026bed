"""sources.json: mirrors of one's own, and synthetic sets; whatever is wrong with it is told."""

import json

import pytest

from datakit import command
from datakit.archives import Archive, Sources
from files import DataError

PUBLISHED = Archive(
    "a.tgz", ("http://one/a.tgz",), size=10, at_least=5, digests=("md5:00",), unpacked=99, page="p"
)


def sources(tmp_path, content):
    path = tmp_path / "sources.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return Sources.read(path)


def test_urls_alone_are_a_mirror_of_the_published_file(tmp_path):
    made = sources(tmp_path, {"archives": {"a.tgz": {"urls": ["http://two/a.tgz"]}}}).archive(PUBLISHED)
    assert made.urls == ("http://two/a.tgz",) and (made.size, made.digests) == (10, ("md5:00",))


def test_another_size_or_checksum_is_another_file_of_which_nothing_else_is_known(tmp_path):
    made = sources(tmp_path, {"archives": {"a.tgz": {"digests": ["sha256:11"]}}}).archive(PUBLISHED)
    assert (made.size, made.at_least, made.digests) == (None, 0, ("sha256:11",))
    assert made.urls == PUBLISHED.urls
    made = sources(tmp_path, {"archives": {"a.tgz": {"size": None}}}).archive(PUBLISHED)
    assert (made.size, made.at_least, made.digests) == (None, 0, ())


def test_what_is_not_named_is_as_published(tmp_path):
    assert sources(tmp_path, {}).archive(PUBLISHED) == PUBLISHED
    assert sources(tmp_path, {"facts": {"x": {"n": 1}}}).facts_of("y", {"n": 2}) == {"n": 2}


def test_facts_take_the_place_of_published_ones(tmp_path):
    made = sources(tmp_path, {"facts": {"x": {"n": 1, "new": [1]}}})
    assert made.facts_of("x", {"n": 2, "m": 3.5}) == {"n": 1, "m": 3.5, "new": [1]}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "cannot be read"),
        ([], "must be an object with the keys archives and facts"),
        ({"archive": {}}, "must be an object with the keys archives and facts"),
        ({"archives": []}, "archives must hold an object of objects"),
        ({"facts": {"x": 1}}, "facts must hold an object of objects"),
        ({"archives": {"a.tgz": {"url": []}}}, "a.tgz has the unknown field url; known: at_least, digests"),
        ({"archives": {"a.tgz": {"name": "b"}}}, "unknown field name"),
        (
            {"archives": {"a.tgz": {"urls": "http://two"}}},
            "urls of a.tgz is 'http://two'; it must be a list of texts",
        ),
        ({"archives": {"a.tgz": {"digests": [1]}}}, r"digests of a.tgz is \[1\]; it must be a list of texts"),
        ({"archives": {"a.tgz": {"size": "10"}}}, "size of a.tgz is '10'; it must be a number of bytes"),
        ({"archives": {"a.tgz": {"size": True}}}, "size of a.tgz is True"),
        ({"archives": {"a.tgz": {"unpacked": -1}}}, "unpacked of a.tgz is -1"),
        ({"archives": {"a.tgz": {"page": 3}}}, "page of a.tgz is 3; it must be a text"),
    ],
)
def test_a_wrong_file_is_told(tmp_path, content, said):
    with pytest.raises(DataError, match=rf"sources file .*sources\.json.*{said}"):
        sources(tmp_path, content)


@pytest.mark.parametrize(
    ("published", "given"), [(3, "3"), (3, 3.5), (3, True), (1.5, "x"), ("abc", 3), ([1, 2], 3)]
)
def test_a_fact_of_another_kind_is_told(tmp_path, published, given):
    with pytest.raises(DataError, match=r"sources\.json: fact 'n' of x is .*; it must be of the kind of"):
        sources(tmp_path, {"facts": {"x": {"n": given}}}).facts_of("x", {"n": published})


def test_a_whole_number_may_stand_for_a_real_one(tmp_path):
    assert sources(tmp_path, {"facts": {"x": {"n": 2}}}).facts_of("x", {"n": 1.5}) == {"n": 2}


def test_where_it_is_looked_for(tmp_path, capsys):
    assert command.sources_of(None, tmp_path) == Sources() and capsys.readouterr().out == ""
    sources(tmp_path, {"facts": {"x": {"n": 1}}})
    assert command.sources_of(None, tmp_path).facts == {"x": {"n": 1}}
    assert "sources.json, not the published ones" in capsys.readouterr().out
    (tmp_path / "mine.json").write_text('{"facts": {"x": {"n": 5}}}')
    assert command.sources_of(tmp_path / "mine.json", tmp_path).facts == {"x": {"n": 5}}


def test_data_root_comes_before_fcn_data_and_that_before_data(tmp_path, monkeypatch):
    monkeypatch.delenv("FCN_DATA", raising=False)
    assert command.root_of(None) == command.ROOT / "data"
    monkeypatch.setenv("FCN_DATA", str(tmp_path / "a"))
    assert command.root_of(None) == tmp_path / "a"
    assert command.root_of(tmp_path / "b") == tmp_path / "b"
