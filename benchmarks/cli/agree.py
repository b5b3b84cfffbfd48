"""The command ``agree``: whether results folders rank methods alike."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.cli.options import add_files

BRIEF = "whether results folders rank methods alike"
DESCRIPTION = """\
Compares the ranked tables of two or more folders that compare made: Spearman's rho and Kendall's tau-b of the methods'
mean accuracies (at the epoch that validation selected) between every two folders, over the rows that both have.
Intervals are 95 % percentile bootstraps over units: draws or splits of the data are resampled within each folder,
9 999 times, with the fixed seed 0. Splits share samples to train on, and so vary more than they seem to; that is
corrected as in Nadeau and Bengio (2003). Rows whose runs are not all done are left out and named.

  python -m benchmarks agree results/reference/compare-synthav results/reference/compare-avmnist"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_files(parser, hidden=True)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="a folder that compare made")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write the numbers to this file")


def execute(args: argparse.Namespace) -> int:
    """Print the correlations, and write them where that is asked for. Returns the exit code."""
    from benchmarks.records.record import write_whole
    from benchmarks.reporting.agreement import agreement_frame, matrix, read_ranking
    from benchmarks.reporting.statistics import LEAST_UNITS

    if len({folder.resolve() for folder in args.folders}) < max(2, len(args.folders)):
        raise ValueError("agree takes two or more folders, each once")
    rankings = [read_ranking(folder) for folder in args.folders]
    frame = agreement_frame(rankings)
    for number, one in enumerate(rankings, 1):
        units = f"{one.units} unit{'s' * (one.units != 1)}"
        print(f"{number}: {one.folder}, {len(one.scores)} complete rows, {units}")
        for label, why in one.left_out.items():
            print(f"   left out: {label} ({why})")
        if missing := sorted({label for other in rankings for label in other.scores} - one.scores.keys()):
            print(f"   not here, or not complete: {', '.join(missing)}")
    for name in ("rho", "tau"):
        print("", *matrix(frame, name, len(rankings)), sep="\n")
    if frame["rho_low"].isna().any():
        print(f"\nNo interval where a folder has fewer than {LEAST_UNITS} draws or splits of the data.")
    if args.csv:
        write_whole(args.csv, frame.to_csv(index=False))
        print(f"\n{args.csv}")
    return 0
