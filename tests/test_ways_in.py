"""What people meet before the code: the container's recipe and the forms of the issue tracker."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
KINDS = {"markdown", "input", "textarea", "dropdown", "checkboxes"}  # that GitHub's forms know


def dockerfile() -> str:
    return (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ")


def test_what_the_container_copies_exists_and_is_not_ignored() -> None:
    lines = re.findall(r"^COPY (?:--\S+ )*(.*) \S+$", dockerfile(), re.MULTILINE)
    sources = [source for line in lines for source in line.split()]
    ignored = [x for x in (ROOT / ".dockerignore").read_text().splitlines() if x and x[0] not in "#!"]
    assert sources and all((ROOT / source).exists() for source in sources)
    needed = [*sources, "benchmarks", "datasets", "models", "ogm", "pyproject.toml", ".git"]
    assert not [name for name in needed if any(fnmatch(name, pattern) for pattern in ignored)]


def test_the_container_has_both_stages_checks_hashes_and_does_not_run_as_root() -> None:
    stages = re.findall(r"^FROM \S+ AS (\w+)$", dockerfile(), re.MULTILINE)
    assert stages == ["base", "cpu", "cuda"]
    assert re.findall(r"^RUN make setup TORCH_BUILD=(\w+)$", dockerfile(), re.MULTILINE) == ["cpu", "cuda"]
    assert (ROOT / "Makefile").read_text().count("--require-hashes -r $$list") == 1
    (user,) = re.findall(r"^USER (\S+)$", dockerfile(), re.MULTILINE)
    assert int(user) > 0 and f"--uid {user}" in dockerfile()


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_is_one_that_github_shows(path: Path) -> None:
    form = yaml.safe_load(path.read_text("utf-8"))
    assert {"name", "description", "body"} <= set(form) <= {"name", "description", "body", "labels", "title"}
    asked = [item for item in form["body"] if item["type"] != "markdown"]
    assert {item["type"] for item in form["body"]} <= KINDS
    assert len({item["id"] for item in asked}) == len(asked) > 0
    assert all(item["attributes"]["label"] for item in asked)
    assert all(item["attributes"]["value"] for item in form["body"] if item["type"] == "markdown")


def test_there_are_forms_for_methods_and_results() -> None:
    assert [path.stem for path in FORMS] == ["new_method", "results"]


def test_workflows_may_only_read_but_for_the_job_that_publishes_pages() -> None:
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        flow = yaml.safe_load(path.read_text("utf-8"))
        assert flow["permissions"] == {"contents": "read"}, path
        more = {name: job["permissions"] for name, job in flow["jobs"].items() if "permissions" in job}
        assert more in ({}, {"publish": {"pages": "write", "id-token": "write"}}), path
        used = [step["uses"] for job in flow["jobs"].values() for step in job["steps"] if "uses" in step]
        assert all(re.fullmatch(r"actions/[\w-]+@v\d+", action) for action in used), path
