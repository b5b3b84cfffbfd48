"""The command ``run``: one run."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from benchmarks.cli.execution import add_export_flag, add_log_flags, callbacks_of
from benchmarks.cli.mistakes import checked
from benchmarks.cli.options import (
    add_execution,
    add_files,
    add_results,
    add_settings,
    environment_of,
    environment_to_read,
)
from benchmarks.cli.shared import print_dashboards, print_reused

if TYPE_CHECKING:
    from benchmarks.config.run_config import RunConfig
    from benchmarks.records.record import RunRecord
    from benchmarks.runner.environment import RunEnvironment

BRIEF = "one run"
DESCRIPTION = """\
One run: train, evaluate, write one record. A run that is already recorded is read, not made again; one that was killed
goes on from its last epoch and ends with the same bits.

settings (name=value; dots go deeper; values are YAML):
  dataset=synthav  method=ogm_ge  fusion=film  seed=1      see: python -m benchmarks list methods
  method_args.alpha=0.8  dataset_args.preset=textbook      options of the method, the data, the fusion (fusion_args.)
  encoders.audio=cnn  encoder_args.audio.widths=[16,32]    per modality
  epochs= batch_size= optimizer=sgd|adam|adamw lr= momentum= weight_decay= schedule=constant|step|cosine
  lr_steps=[70] lr_factor=0.1 max_norm= micro_batch= precision=fp32|tf32|fp64|bf16
What is not given comes from the dataset's recipe and the method's defaults (benchmarks/config/method_defaults.py).

several processes on one run:
  python -m torch.distributed.run --standalone --nproc-per-node 2 -m benchmarks run dataset=synthav method=ogm_ge
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's settings and flags."""
    add_settings(parser, "what the run is")
    add_results(parser, "results/runs")
    add_execution(parser)
    add_files(parser)
    add_log_flags(parser)
    add_export_flag(parser)


def execute(args: argparse.Namespace) -> int:
    """Make the run. Returns the exit code."""
    from benchmarks.config.run_config import configure

    config = checked(args, configure, lambda config: [config])
    environment = environment_to_read(args)
    record = None if args.export_weights or "RANK" in os.environ else _reused(config, environment, args)
    return _end(config, record, args) if record is not None else _make(config, environment, args)


def _reused(config: RunConfig, environment: RunEnvironment, args: argparse.Namespace) -> RunRecord | None:
    """The record that is there already: read without torch, which takes longer to import than all of this."""
    from benchmarks.runner.events import RunFinished

    record = environment.recorded(config)
    if record is not None:
        print_reused([record], 1)
        with callbacks_of(args, environment, {config.key: config}, complete=True) as callbacks:
            callbacks.on(RunFinished(config.key, config, record))
    return record


def _make(config: RunConfig, known: RunEnvironment, args: argparse.Namespace) -> int:
    from benchmarks.callbacks.base import Callbacks
    from benchmarks.runner.distributed import ranks
    from benchmarks.runner.experiment import resolve
    from benchmarks.runner.failures import run_or_record_fault

    experiment = resolve(config)
    asked = {config.key: config}
    with ranks(args.device) as rank:
        environment = environment_of(args, known)
        if rank == 0:
            before = environment.finished(experiment)
            print_reused([] if before is None else [before], 1)
        complete = rank == 0 and environment.finished(experiment, export=args.export_weights) is not None
        with callbacks_of(args, environment, asked, complete=complete) if rank == 0 else Callbacks([]) as callbacks:
            record = run_or_record_fault(experiment, environment, export=args.export_weights, on_event=callbacks.on)
        return _end(config, record, args) if rank == 0 else int(record.status != "done")


def _end(config: RunConfig, record: RunRecord, args: argparse.Namespace) -> int:
    """Print what came of the run, where it is recorded, and how to look at it. Returns the exit code."""
    from benchmarks.callbacks.progress import summary

    print(f"{config.title}: {summary(record)}")
    print(record.path(args.results))
    print_dashboards(args)
    return int(record.status != "done")
