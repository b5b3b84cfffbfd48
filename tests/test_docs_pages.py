"""The pages of docs/ that are written by hand: their numbers are those of the records, and their blocks run."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

import ogm
from benchmarks.reporting.method_names import title_of
from datasets.__main__ import main as datasets_main
from ogm.registry import STRATEGIES
from tests import docs_pages
from tests.datasets.test_crema_d_download import files, lfs  # noqa: F401  # fixtures
from tests.helpers.commands import run_here, run_process, run_program
from tests.readme_parts import Results, read_all
from tests.test_readme import short

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
MINUS = "\N{MINUS SIGN}"
HAND = ("index", "your_own_method", "many_runs", "results_folders", *docs_pages.PAGES)
SLOW = re.compile(r"torch.distributed|--recipes| (tune|check|compare|grid) ")
# What makes a run on CREMA-D short; its preparation too, where a command prepares.
TINY = ["dataset_args.image_size=64", "epochs=1", "batch_size=4", "encoders.audio=cnn", "encoders.visual=cnn"]
TINY += ["encoder_args.audio.widths=[8, 8]", "encoder_args.visual.widths=[8, 8]"]


def blocks(page: str, language: str) -> list[str]:
    """The blocks of a page in one language."""
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / f"{page}.md").read_text("utf-8"), re.DOTALL)


def lines(page: str) -> list[str]:
    return [line for text in blocks(page, "bash") for line in text.strip().splitlines()]


@pytest.fixture(scope="module")
def committed() -> dict[str, Results]:
    return read_all()


@pytest.mark.parametrize("name", docs_pages.PAGES)
def test_the_page_is_what_the_records_say(name: str, committed: dict[str, Results]) -> None:
    written = (DOCS / f"{name}.md").read_text("utf-8")
    assert written == docs_pages.page(name, committed), "python -m tests.docs_pages writes it anew"


@pytest.mark.parametrize("name", docs_pages.PAGES)
def test_no_number_of_a_template_is_a_result(name: str, committed: dict[str, Results]) -> None:
    """Whatever has a decimal point or a sign is made from records; and every name in the template is used."""
    text = (docs_pages.TEMPLATES / f"{name}.md").read_text("utf-8")
    assert set(re.findall(r"\{(\w+)\}", text)) == set(docs_pages.PAGES[name](committed))
    prose = re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)", "", text, flags=re.DOTALL).replace("Python 3.11", "")
    assert not re.findall(rf"\d+\.\d|[+{MINUS}]\d|± ?\d", prose.replace("p < 0.05", ""))


def test_words_that_the_numbers_do_not_bear_are_noticed(committed: dict[str, Results]) -> None:
    numbers = committed["compare-synthav"].tables["compare-synthav"].numbers
    row = numbers.index[numbers["row"] == "visual only"][0]
    before = numbers.loc[row, "difference_low"]
    numbers.loc[row, "difference_low"] = 0.1
    try:
        with pytest.raises(ValueError, match="the picture alone is level"):
            docs_pages.page("which_method", committed)
    finally:
        numbers.loc[row, "difference_low"] = before


@pytest.mark.parametrize("page", HAND)
def test_a_method_has_its_full_name_where_it_is_first_used(page: str) -> None:
    text = re.sub(r"```.*?```", "", (DOCS / f"{page}.md").read_text("utf-8"), flags=re.DOTALL)
    text = " ".join(text.split()).replace("package `ogm`", "")  # which has the name of a method
    for name in STRATEGIES:
        first = text.find(f"`{name}`")
        title = title_of(name)
        if first >= 0 and title:
            around = text[max(first - 250, 0) : first + 250]
            assert title.lower() in around.lower(), f"{page}: {name} is {title}"


@pytest.mark.parametrize("page", [page for page in HAND if blocks(page, "python")])
def test_python_blocks_run(page: str, tmp_path: Path) -> None:
    run_program("\n".join(blocks(page, "python")), tmp_path, 240)


def test_the_method_of_the_page_is_the_example() -> None:
    shown, example = blocks("your_own_method", "python")[0], (ROOT / "examples" / "halved.py").read_text("utf-8")
    assert example.endswith(shown)


def carry_out(line: str, folder: Path) -> str:
    """A command of a page on small data, with its results below ``folder``; what it prints."""
    words = [str(folder / word) if word.startswith("results/halved") else word for word in shlex.split(line)[1:]]
    verb = next((i for i, word in enumerate(words) if word in ("run", "grid", "compare", "tune")), None)
    if verb is not None:
        flags = next((i for i, word in enumerate(words) if i > verb and word.startswith("--")), len(words))
        words = [*short(words[:flags]), *words[flags:]]
        places = {"--results": folder / "results", "--work": folder / "work"}
        words += [x for flag, place in places.items() if flag not in words for x in (flag, str(place))]
    command = [sys.executable, *words]
    done = run_here(command) if words[:2] == ["-m", "benchmarks"] else run_process(command)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("page", "line"),
    [
        pytest.param(page, line, marks=pytest.mark.long if SLOW.search(line) and "print" not in line else ())
        for page in ("index", "many_runs", "results_folders", "statistics")
        for line in lines(page)
        if line.startswith(".venv/bin/python")
    ],
)
def test_command_lines_run(page: str, line: str, tmp_path: Path) -> None:
    carry_out(line, tmp_path)


@pytest.mark.long
def test_the_commands_on_a_method_of_ones_own_run_in_order(tmp_path: Path) -> None:
    shown = lines("your_own_method")
    assert [line.split()[3] for line in shown] == ["run", "compare", "tune", "check"]
    for line in shown:
        printed = carry_out(line, tmp_path)
    assert "halved" in (tmp_path / "results" / "halved" / "README.md").read_text("utf-8"), printed


@pytest.mark.parametrize("line", [line for page in HAND for line in lines(page) if line.startswith("make")])
def test_make_targets_say_what_they_would_do(line: str) -> None:
    done = run_process([*shlex.split(line), "--dry-run"])
    assert done.returncode == 0, done.stderr


def test_the_commands_on_crema_d_run_in_order(
    lfs: tuple[str, object],  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On a few clips from a server on this machine, up to what would train for hours, whose commands are printed."""
    shown = [line.removeprefix(".venv/bin/python ") for line in lines("reproduce_crema_d") if "make" not in line]
    verbs = ["download", "prepare", "verify", "info", "bench", "run", "reproduce", "compare"]
    assert [line.split()[2] for line in shown] == verbs
    more = {"download": ["--base", lfs[0]], "prepare": ["image_size=64"], "verify": ["image_size=64"], "info": []}
    for line in shown[:4]:
        words = shlex.split(line)[2:]
        assert datasets_main([*words, *more[words[0]]]) == 0, capsys.readouterr().err
    places = ["--results", str(tmp_path / "results"), "--work", str(tmp_path / "work")]
    run, reproduce, compare = (shlex.split(line) for line in shown[5:])
    for words in ([*run, *TINY], reproduce, [*compare, "--executor", "print"]):
        done = run_here([sys.executable, *words, *places])
        assert done.returncode == 0, done.stderr
    assert done.stdout.count("dataset_args.split=speaker_independent") == 10


@pytest.mark.long
@pytest.mark.timeout(900)  # steps of two ResNet-18s
def test_how_long_a_run_on_crema_d_takes_can_be_asked() -> None:
    (line,) = [line for line in lines("reproduce_crema_d") if " bench " in line]
    carry_out(line, Path())


def test_the_api_page_has_every_public_name() -> None:
    documented = set(re.findall(r"^::: ogm\S*?(\w+)$", (DOCS / "api.md").read_text("utf-8"), re.MULTILINE))
    assert documented == set(ogm.__all__) - {"__version__"}
