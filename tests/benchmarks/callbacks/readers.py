"""What dashboards have written, read back with their own libraries."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.callbacks.run_page import PROJECT
from benchmarks.callbacks.wandb_file import records


@dataclass
class Shown:
    """A run in a dashboard: its curves as (epoch, value), and its settings and last words by dotted names."""

    name: str = ""
    group: str = ""
    job_type: str = ""
    config: dict[str, str] = field(default_factory=dict)
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=lambda: defaultdict(list))
    summary: dict[str, str] = field(default_factory=dict)


def read_wandb(folder: Path) -> list[Shown]:
    return [_wandb_run(path) for path in sorted(folder.rglob("run-*.wandb"))]


def _wandb_run(path: Path) -> Shown:
    shown = Shown()
    for record in records(path):
        if record.HasField("run"):
            run = record.run
            shown.name, shown.group, shown.job_type = run.display_name, run.run_group, run.job_type
            for item in run.config.update:
                shown.config |= _flat({item.key: json.loads(item.value_json)})
        elif record.HasField("history"):
            values = {_name(item): json.loads(item.value_json) for item in record.history.item}
            for name, value in values.items():
                if not name.startswith("_") and name != "epoch":
                    shown.curves[name].append((record.history.step.num, value))
        elif record.HasField("summary"):
            shown.summary |= {_name(item): str(json.loads(item.value_json)) for item in record.summary.update}
    return shown


def _name(item: Any) -> str:
    return item.key or ".".join(item.nested_key)


def read_tensorboard(folder: Path) -> list[Shown]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = []
    for place in sorted({path.parent for path in folder.rglob("events.out.tfevents.*")}):
        events = EventAccumulator(str(place)).Reload()
        group, job_type, name = place.relative_to(folder).parts
        shown = Shown(name, group, job_type)
        texts = {
            tag.removesuffix("/text_summary"): events.Tensors(tag)[-1].tensor_proto.string_val[0].decode()
            for tag in events.Tags()["tensors"]
        }
        shown.config, shown.summary = _markdown(texts["config"]), _markdown(texts.get("summary", ""))
        for tag in events.Tags()["scalars"]:
            points = [(point.step, point.value) for point in events.Scalars(tag)]
            if tag.startswith("summary/"):
                assert len(points) == 1, tag
            else:
                shown.curves[tag] = points
        found.append(shown)
    return found


def _markdown(text: str) -> dict[str, str]:
    rows = [line.strip("| ").split(" | ") for line in text.splitlines()[2:]]
    return {row[0]: row[1] if len(row) > 1 else "" for row in rows}


def read_mlflow(folder: Path) -> list[Shown]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(folder.as_uri())
    found = []
    for experiment in client.search_experiments():
        for run in client.search_runs([experiment.experiment_id]):
            tags = run.data.tags
            assert tags["group"] == experiment.name
            shown = Shown(run.info.run_name, tags["group"], tags["job_type"], dict(run.data.params))
            shown.summary = {name: tags[name] for name in ("status", "reason") if name in tags}
            for name in run.data.metrics:
                points = [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]
                if name.startswith("summary/"):
                    shown.summary[name.removeprefix("summary/")] = str(points[-1][1])
                else:
                    shown.curves[name] = sorted(points)
            found.append(shown)
    return found


def read_trackio(folder: Path) -> list[Shown]:
    from trackio.sqlite_storage import SQLiteStorage

    assert list(folder.glob("*.db"))
    found = []
    for run in SQLiteStorage.get_run_records(PROJECT):
        config = SQLiteStorage.get_run_config(PROJECT, run["name"], run["id"]) or {}
        shown = Shown(run["name"], config.get("_Group", ""), config.get("job_type", ""), _flat(config))
        for row in SQLiteStorage.get_logs(PROJECT, run["name"], run_id=run["id"]):
            for name, value in row.items():
                if name.startswith("summary/"):
                    shown.summary[name.removeprefix("summary/")] = str(value)
                elif name not in ("step", "timestamp", "log_id"):
                    shown.curves[name].append((row["step"], value))
        found.append(shown)
    return found


def _flat(settings: Mapping[str, Any], before: str = "") -> dict[str, str]:
    out: dict[str, str] = {}
    for name, value in settings.items():
        out |= _flat(value, f"{before}{name}.") if isinstance(value, Mapping) else {f"{before}{name}": str(value)}
    return out


READERS: Mapping[str, Callable[[Path], list[Shown]]] = {
    "wandb": read_wandb,
    "tensorboard": read_tensorboard,
    "mlflow": read_mlflow,
    "trackio": read_trackio,
}
