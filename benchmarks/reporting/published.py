"""What papers print, to stand beside our numbers: ``results/published.csv``, with its sha256 in a file beside it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmarks.config.run_config import explain
from benchmarks.config.suite import Table

PUBLISHED = Path(__file__).resolve().parents[2] / "results" / "published.csv"


@dataclass(frozen=True)
class Published:
    """What papers print for one table on one data set.

    Args:
        accuracy: Row label -> the columns of its line.
        mAP: Row label -> mean average precision in percent.
        has_mAP: Whether a paper prints mAP for this table, on this data set or another.
    """

    accuracy: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    mAP: Mapping[str, float] = field(default_factory=dict)
    has_mAP: bool = False

    def columns(self, label: str) -> dict[str, Any]:
        """The numbers of a row, in percent; NaN where nothing is printed."""
        line = self.accuracy.get(label)
        found: dict[str, Any] = {"published": math.nan}
        if line:
            found |= {"published": float(line["value"]), "published_note": line["note"]}
        return found | ({"published_mAP": self.mAP.get(label, math.nan)} if self.has_mAP else {})


class PublishedLine(BaseModel):
    """A line of published.csv."""

    model_config = ConfigDict(extra="forbid")

    paper: str
    table: str
    dataset: str
    row: str
    metric: Literal["accuracy", "mAP"]
    value: float = Field(ge=0, le=100, allow_inf_nan=False)  # in percent
    note: str


def read_published(table: Table, path: Path = PUBLISHED) -> Published:
    """What papers print for a table.

    Args:
        table: The table; its name and dataset select the lines.
        path: The file, with its sha256 in a file beside it.

    Raises:
        ValueError: The file is not the one that the sha256 is of, or a line of it cannot be.
    """
    content, beside = path.read_bytes(), path.with_name(f"{path.name}.sha256")
    if hashlib.sha256(content).hexdigest() != beside.read_text().split(" ")[0]:
        raise ValueError(
            f"{path} is not the file of {beside.name}: restore both, or, where the change is meant, write its digest "
            f"anew: sha256sum {path.name} > {beside.name}"
        )
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    for number, line in enumerate(frame.to_dict("records"), 2):
        try:
            PublishedLine(**line)
        except ValidationError as error:
            raise ValueError(
                f"{path}, line {number}: {explain(error.errors()[0], PublishedLine.model_fields)}"
            ) from None
    named = frame[frame.table == table.name]
    mine = named[named.dataset == table.dataset]
    precisions = mine[mine.metric == "mAP"]
    return Published(
        {line["row"]: line for line in mine[mine.metric == "accuracy"].to_dict("records")},
        dict(zip(precisions.row, precisions.value.astype(float), strict=True)),
        bool((named.metric == "mAP").any()),
    )
