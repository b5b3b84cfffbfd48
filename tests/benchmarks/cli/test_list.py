"""What `list` tells of each method, fusion, encoder, dataset and suite, and the page of the docs on methods."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.cli import method_page
from benchmarks.config import parts
from benchmarks.config.method_text import NO_CODE, method_text
from benchmarks.config.suite import load
from datasets.registry import DATASETS, card
from models.registry import ENCODERS, FAMILIES, FUSIONS
from ogm.registry import STRATEGIES, find
from ogm.strategy import Strategy
from tests.helpers.commands import forgotten_files

ROOT = Path(__file__).resolve().parents[3]


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["list", *words]) == 0
    return capsys.readouterr().out


def test_every_method_with_its_idea_paper_code_cost_and_defaults(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out = printed(capsys, "methods")
    entries = {entry.split(":")[0].splitlines()[0].strip(): entry for entry in out.split("\n\n")}
    for name in STRATEGIES:
        cls = find(name, STRATEGIES, "strategy")
        entry = " ".join(entries[name].split())
        assert method_text(cls.__doc__).idea in entry
        assert f"kind: {cls.category}" in entry and "cost: " in entry and "paper: " in entry and "code: " in entry
    assert "alpha=0.1..1 (log)" in out and "factors=0.03..1 (log) for any one" in out
    assert "alpha=0.3 variant=paper" in out and "alpha=0.8" in out
    wide = [line for line in out.splitlines() if len(line) > 80]
    assert all(len(line.split()) <= 2 for line in wide), wide  # addresses, which stay whole


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_one_method_in_full(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, "methods", name)
    cls = find(name, STRATEGIES, "strategy")
    text = method_text(cls.__doc__)
    words = " ".join(out.split())
    assert list(text.options) == list(inspect.signature(cls).parameters)
    for part in (text.idea, " ".join(text.algorithm.split()), *text.options.values(), *text.differences):
        assert part in words
    for option, parameter in inspect.signature(cls).parameters.items():
        assert f"{option}={'?' if parameter.default is parameter.empty else parameter.default}" in words


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_a_method_names_its_paper_and_its_code_or_that_there_is_none(name: str) -> None:
    references = method_text(find(name, STRATEGIES, "strategy").__doc__).references
    ours = any(x.startswith("This suite") for x in references)
    assert ours or any(x.startswith("Paper") for x in references), references
    assert ours or any(x.startswith(("Code: ", "Code of")) for x in references), references
    for line in references:
        if line.startswith("Code") and not line.startswith(NO_CODE):
            assert method_text(find(name, STRATEGIES, "strategy").__doc__).repositories, line


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["methods", "ogmge"],
            f"'ogmge' is not one of the {len(STRATEGIES)} that `python -m benchmarks list methods` prints; "
            "did you mean 'ogm_ge'?",
        ),
        (["methods", "\n"], r"'\n' is not one of the"),
        (["fusions", "flim"], "that `python -m benchmarks list fusions` prints; did you mean 'film'?"),
        (["encoders", "resnet"], "did you mean 'resnet50'?"),
        (["encoders", "torch:x"], "'torch:x' is not one of the"),
        (["datasets", "cremad"], "did you mean 'crema_d'?"),
        (["suites", "papr"], "did you mean 'paper'"),
        (["suites", "nowhere.yaml"], "there is no file nowhere.yaml"),
    ],
)
def test_a_name_that_there_is_not(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and says in captured.err


@pytest.mark.parametrize("name", [*FUSIONS, *ENCODERS, *(f"{family}:anything" for family in FAMILIES)])
def test_one_fusion_or_encoder_in_full(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    kind, entry = ("fusion", name) if name in FUSIONS else ("encoder", name)
    if ":" in name:
        kind, entry = "encoder family", name.partition(":")[0]
    words = " ".join(printed(capsys, "fusions" if kind == "fusion" else "encoders", name).split())
    cls = find(entry, parts.KINDS[kind], kind)
    text = method_text(cls.__doc__)
    for part in (text.idea, " ".join(text.algorithm.split()), *text.differences, *text.references, cls.source):
        assert part in words
    for parameter in inspect.signature(cls).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY:
            assert f"{parameter.name}={parameter.default}" in words


@pytest.mark.parametrize("name", list(DATASETS))
def test_one_dataset_in_full(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = " ".join(printed(capsys, "datasets", name).split())
    about, cls = card(name), find(name, DATASETS, "dataset")
    for part in (about.title, about.licence, about.how_to_get, about.citation, *about.quirks):
        assert " ".join(part.split()) in words
    for option in getattr(getattr(cls, "Options", None), "model_fields", ()):
        assert f"dataset_args.{option}=" in words
    for setting, value in cls.training_recipe.items():
        shown = [f"{setting}.{inner}" for inner in value] if isinstance(value, dict) else [f"{setting}={value}"]
        assert all(part in words for part in shown)


@pytest.mark.parametrize("name", ["paper", "regimes"])
def test_one_suite_in_full(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = " ".join(printed(capsys, "suites", name).split())
    whole = load(name)
    assert f"runs: {len(whole.configs())}, and" in words and f"reproduce --suite {name}" in words
    for table in whole.tables:
        assert table.title in words and all(f"- {row.label}" in words for row in table.rows)


def test_a_suite_of_ones_own_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(ROOT / "examples" / f"two_noises.{suffix}") for suffix in ("yaml", "py")]
    with forgotten_files():
        words = " ".join(printed(capsys, "suites", files[0], "--dataset-file", files[1]).split())
        assert words.startswith("two_noises: ") and "dataset=two_noises" in words
        about = printed(capsys, "datasets", "two_noises", "--dataset-file", files[1])
        assert about.startswith("two_noises\n") and "Recipe of a run" in about


def test_a_method_of_ones_own_that_says_nothing_is_shown_with_its_options(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(STRATEGIES, "bare", f"{__name__}:Bare")
    monkeypatch.setenv("COLUMNS", "3")
    out = printed(capsys, "methods", "bare")
    assert out.startswith("bare\n") and "somebody" in out and "  start=0" in out and "References" not in out


class Bare(Strategy):
    category = "loss"
    paper = "somebody"


def test_the_page_of_the_docs_is_that_of_the_classes() -> None:
    assert (ROOT / "docs" / "methods.md").read_text(encoding="utf-8") == method_page.markdown(), (
        "docs/methods.md is stale: python -m tests.paper_and_code"
    )
