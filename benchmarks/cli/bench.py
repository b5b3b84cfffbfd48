"""The command ``bench``: what a step of each method, loading, and many runs cost."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from benchmarks.cli.options import add_device, device_of, positive
from benchmarks.config.run_config import known

BRIEF = "time, operations and memory of a step of every method"
DESCRIPTION = """\
Step time and peak memory of every method, as ratios to vanilla, and the operations that a
step asks of torch (views left out), with two ResNet-18s at CREMA-D's shapes. The methods
take turns in one run.

With --recipes: how long one run with a dataset's recipe takes on this machine, from a few steps
on random input, so that no data are needed. Of those whose data have to be fetched:

  python -m benchmarks bench --recipes crema_d ave
  python -m benchmarks bench --recipes --device cuda

With --gpu: all that only a GPU can tell, in under ten minutes: steps, launches, waiting, memory,
loading, compiled encoders, equal bits, two runs at a time. What there was no time for is named.

With --scale: what many runs cost beside the runs themselves, each figure with its aim: executors
(Ray and Slurm where they are there), 100,000 records, a list of 200,000 samples, a simulated grid
of 100,000 runs, two commands on one folder. It takes at most an hour and a half, on a machine that
does nothing else.

  make bench-scale                           with Ray and a Slurm of this machine"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    add_device(parser)
    parser.add_argument("--data", action="store_true", help="instead: prepared data against files read per sample")
    parser.add_argument("--clips", type=positive, help="with --data: samples of the generated set (default: 7442)")
    parser.add_argument(
        "--records", type=positive, metavar="N", help="instead: pack, tables and grid on N generated records"
    )
    parser.add_argument("--recipes", nargs="*", metavar="DATASET", help="instead: how long a run takes (default: all)")
    parser.add_argument("--gpu", action="store_true", help="instead: all that only a GPU can tell, in one call")
    parser.add_argument("--scale", action="store_true", help="instead: what many runs cost beside the runs themselves")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="with --recipes: also write the numbers as JSON; with --gpu and --scale: where (default: below "
        "results/bench, named after the device)",
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
    if args.recipes is not None:
        from benchmarks.speed.recipes import SIZES, bench_recipes

        for name in args.recipes:
            known(name, SIZES)
        bench_recipes(args.recipes, device_of(args.device), args.out)
        return 0
    if args.gpu:
        from benchmarks.speed.gpu import bench_gpu

        return bench_gpu(device_of(args.device), args.out)
    if args.scale:
        from benchmarks.speed.scale import bench_scale

        return bench_scale(args.out)
    if args.out:
        raise ValueError("--out belongs to --recipes, --gpu or --scale: say both")
    import torch

    from benchmarks.speed.steps import bench

    torch.set_num_threads(os.cpu_count() or 1)
    bench(device_of(args.device))
    return 0
