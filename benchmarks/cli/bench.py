"""The command ``bench``: what a step of each method and what loading costs."""

from __future__ import annotations

import argparse
import os

from benchmarks.cli.options import add_device, device_of, positive

BRIEF = "time, operations and memory of a step of every method"
DESCRIPTION = """\
Step time and peak memory of every method, as ratios to vanilla, and the operations that a
step asks of torch (views left out), with two ResNet-18s at CREMA-D's shapes. The methods
take turns in one run."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    add_device(parser)
    parser.add_argument("--data", action="store_true", help="instead: prepared data against files read per sample")
    parser.add_argument("--clips", type=positive, help="with --data: samples of the generated set (default: 7442)")
    parser.add_argument(
        "--records", type=positive, metavar="N", help="instead: pack, tables and grid on N generated records"
    )


def execute(args: argparse.Namespace) -> int:
    """Measure and print. Returns the exit code."""
    if args.data:
        from benchmarks.speed.loading import CLIPS, bench_data

        bench_data(args.clips or CLIPS)
        return 0
    if args.records:
        from benchmarks.speed.many_records import bench_records

        bench_records(args.records)
        return 0
    if args.clips:
        raise ValueError("--clips belongs to --data: say both")
    import torch

    from benchmarks.speed.steps import bench

    torch.set_num_threads(os.cpu_count() or 1)
    bench(device_of(args.device))
    return 0
