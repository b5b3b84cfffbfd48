"""Every method and data set has entries in BibTeX, which agree with what the classes, cards and CITATION.cff say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from benchmarks.__main__ import main
from benchmarks.cli.cite import FILE, entries_of
from benchmarks.config import parts
from benchmarks.config.method_text import method_text
from datasets.registry import DATASETS, card
from ogm.registry import STRATEGIES

ROOT = Path(__file__).resolve().parents[3]
FIELD = re.compile(r"^  (\w+) = {(.*)},$", re.MULTILINE)
VENUE = {"article": "journal", "inproceedings": "booktitle"}


def fields(entry: str) -> dict[str, str]:
    return dict(FIELD.findall(entry))


def entries() -> list[str]:
    return re.findall(r"^@.*?^}", FILE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def test_nothing_but_entries_and_comments_is_in_the_file() -> None:
    rest = re.sub(r"^@.*?^}", "", FILE.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert all(line.startswith("%") for line in rest.splitlines() if line)
    keys = [re.match(r"@\w+{(\w+),\n", entry)[1] for entry in entries()]  # type: ignore[index]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.partition(",")[0])
def test_an_entry_is_complete_and_its_braces_match(entry: str) -> None:
    kind, lines = entry[1:].partition("{")[0], entry.splitlines()
    assert all(FIELD.fullmatch(line) for line in lines[1:-1]) and lines[-1] == "}"
    assert all(line.count("{") == line.count("}") for line in lines[1:-1])
    assert not re.search(
        r"(?<!\\)[&%$#_]", re.sub(r"  (keywords|doi|eprint|howpublished) = .*", "", "\n".join(lines[1:]))
    )
    names = fields(entry)
    assert {"author", "title", "keywords"} <= set(names)
    assert kind in ("misc", "software") or VENUE[kind] in names
    assert re.fullmatch(r"\d{4}", names.get("year", "0000"))
    for name in names["keywords"].split(", "):
        kind, _, which = name.partition(":")
        assert name == "suite" or which in {"method": STRATEGIES, "dataset": DATASETS}[kind], name


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_a_method_has_the_papers_that_its_class_names(name: str) -> None:
    found = entries_of([f"method:{name}"])
    text = " ".join(found)
    assert found
    references = " ".join(method_text(parts.docstring(STRATEGIES[name])).references)
    assert set(re.findall(r"arXiv (\d{4}\.\d{5})", references)) <= {fields(entry).get("eprint", "") for entry in found}
    papers = [line for line in references.split("Paper") if line.startswith((":", " of"))]
    years = {year for paper in papers for year in re.findall(r"\b(20\d\d)\b(?!\.)", paper)}
    assert years <= {fields(entry)["year"] for entry in found} | {"2015"}, years
    for paper in papers:  # the first author
        author = re.search(r"(?:: |of )([A-Z][\w-]+)(?:,| et al| and )", paper)
        assert author is None or author[1] in text, author


@pytest.mark.parametrize("name", list(DATASETS))
def test_a_data_set_has_what_its_card_says(name: str) -> None:
    found = entries_of([f"dataset:{name}"])
    assert found
    said = card(name).citation
    assert set(re.findall(r"doi (\S+)", said)) <= {fields(entry).get("doi") for entry in found}
    assert set(re.findall(r"arXiv (\d{4}\.\d{4,5})", said)) <= {fields(entry).get("eprint") for entry in found}
    assert set(re.findall(r"\b(?:19|20)\d\d\b", said)) <= {fields(entry).get("year") for entry in found}


def test_the_suite_is_cited_as_citation_cff_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cite"]) == 0
    names, said = fields(capsys.readouterr().out), yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert names["title"] == f"{{{said['title']}}}" and names["version"] == said["version"]
    assert names["author"] == f"{{{said['authors'][0]['name']}}}" and said["date-released"].startswith(names["year"])
    assert "keywords" not in names


def test_several_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cite", "method=ogm_ge,umt,ume", "dataset=crema_d"]) == 0
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if line.startswith("@")] == [
        "@inproceedings{peng2022balanced,",
        "@inproceedings{du2023unimodal,",
        "@article{cao2014cremad,",
    ]


def test_all_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cite", "method=ogmge,agm", "dataset=cremad", "methd=ogm", "ogm"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    said = captured.err.splitlines()
    assert len(said) == 4 and all(line.startswith("error: ") for line in said)
    assert "did you mean 'ogm_ge'" in said[0] and "did you mean 'crema_d'" in said[1] and "'method'" in said[2]
