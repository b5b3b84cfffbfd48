"""What a dashboard shows of a run, decided once for all dashboards: its name and group, its curves, its last words."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.config.run_config import RunConfig, configure
from benchmarks.records.record import RunRecord

PROJECT = "ogm-bench"
JobType = Literal["run", "trial", "prerequisite", "report"]
LONGEST = 120  # letters of a name or group; wandb takes 128, a folder's name 255 bytes
SELECTIONS = ("last", "val_best")  # not test_best: an epoch that the test set has chosen belongs into no summary

# Everything else in a name becomes "_": a name is a folder in TensorBoard and a page in a browser elsewhere.
_UNUSUAL = re.compile(r"[^A-Za-z0-9_.,=+@\[\] -]+")


@dataclass(frozen=True)
class RunPage:
    """How a dashboard presents one run.

    Args:
        key: The run's key, or the name of a results folder for its report.
        name: Differs between any two runs with different settings.
        group: What the runs of one results folder are called together.
        job_type: ``run``, ``trial`` of a search, ``prerequisite``: a run that others build on, ``report``: tables and
            figures.
        config: Every setting, as plain JSON.
        tags: Words to filter by.
    """

    key: str
    name: str
    group: str
    job_type: JobType
    config: Mapping[str, Any]
    tags: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """One word for this run in this group, the same whenever it is started again."""
        return f"{self.key}-{hashlib.sha256(self.group.encode()).hexdigest()[:6]}"

    def flat_config(self) -> dict[str, Any]:
        """The settings by dotted names: ``method_args.alpha``."""
        return flat(self.config)


def page_of(config: RunConfig, group: str, job_type: JobType) -> RunPage:
    """The page of a run."""
    settings = {"key": config.key, **config.model_dump(mode="json")}
    return RunPage(config.key, run_name(config), group, job_type, settings, (config.dataset, config.method))


def report_page(group: str, title: str) -> RunPage:
    """The page with the tables and figures of a results folder."""
    key = hashlib.sha256(group.encode()).hexdigest()[:12]
    return RunPage(key, f"{group} tables and figures", group, "report", {"title": title})


def run_name(config: RunConfig) -> str:
    """A name that differs between any two runs with different settings.

    It holds what differs from the recipe of the dataset and the defaults of the method, as far as there is room, and
    ends in the run's key, which stands for all settings and finds the record: ``python -m benchmarks show KEY``.
    """
    start = " ".join([config.dataset, config.fusion, config.method, *_changed(config), config.optimizer])
    end = f" seed {config.seed} {config.key}"
    return shorten(harmless(start), LONGEST - len(end)) + end


def _changed(config: RunConfig) -> list[str]:
    """The options of the data set, and all settings that are not what they are by default, as ``name=value``.

    Those of the method come first, those of encoders, of which there are most, last.
    """
    named = ("dataset", "dataset_args", "fusion", "method", "optimizer", "seed")
    usual = configure({name: getattr(config, name) for name in named})
    left_out = {*named, "files", "protocol"}
    now, before = (flat(c.model_dump(mode="json", exclude=left_out)) for c in (config, usual))
    changed = {n.removeprefix("method_args."): x for n, x in now.items() if n not in before or x != before[n]}
    changed |= flat(config.dataset_args)
    return [f"{name}={value}" for name, value in sorted(changed.items(), key=lambda item: "encoder" in item[0])]


def group_of(results: Path) -> str:
    """What the runs of a results folder are called together: ``paper``, ``compare-synthav-concat-1a2b3c``."""
    folder = results.resolve()
    parts = [folder.parent.name, folder.name] if folder.parent.name != "results" else [folder.name]
    return shorten(harmless("-".join(part for part in parts if part)), LONGEST) or "runs"


def curve_values(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """The newest points of the curves that are drawn.

    The test set has no curve: whoever saw it beside validation would choose by it. What is not finite is left out.
    """
    return {n: v for n, v in metrics.items() if v is not None and not n.startswith("test/")}


def history(curves: Mapping[str, Any], epochs: int) -> list[dict[str, float]]:
    """The same for each of the first ``epochs`` epochs of whole curves."""
    return [curve_values({n: curve[epoch] for n, curve in curves.items()}) for epoch in range(epochs)]


def summary_of(record: RunRecord) -> dict[str, float]:
    """The numbers a run ended with: test metrics at the last and at the validation-selected epoch, probes, seconds."""
    test = {f"test/{s}/{n}": v for s in SELECTIONS for n, v in record.test.get(s, {}).items()}
    probes = {f"probe/{m}": v for m, v in record.probe.items()}
    cost = {f"cost/{n}": v for n, v in record.cost.items() if n == "seconds"}
    return {**test, **probes, **cost}


def flat(settings: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Mappings in mappings to dotted names: {"a": {"b": 1}} -> {"a.b": 1}."""
    out: dict[str, Any] = {}
    for name, value in settings.items():
        out |= flat(value, f"{before}{name}.") if isinstance(value, Mapping) else {f"{before}{name}": value}
    return out


def harmless(text: str) -> str:
    """Text without what a shell, a path or a browser could take for something else."""
    return _UNUSUAL.sub("_", text).lstrip(". -")


def shorten(text: str, most: int) -> str:
    """Text of at most ``most`` letters: of a longer one the middle is left out."""
    if len(text) <= most:
        return text
    kept = max(most - 3, 0)
    return text[: kept - kept // 2] + "..." + text[len(text) - kept // 2 :]
