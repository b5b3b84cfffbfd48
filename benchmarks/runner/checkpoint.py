"""What a run keeps on disk so that it can go on after a kill, and what it leaves to runs that build on it."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import io
import math
import resource
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from benchmarks.records.predictions import Predictions, curve_scores
from benchmarks.records.record import SCORED, best_epoch, write_whole, writing
from benchmarks.runner.distributed import is_first_rank
from benchmarks.runner.metrics import predict
from benchmarks.runner.passes import PassCounter
from ogm.context import world_size
from ogm.engine import Diverged, Engine


class CorruptFileError(ValueError):
    """A file this program wrote is no longer what it wrote."""


class RunState:
    """What a run has reached: the engine, the evaluations so far, what they cost, its best weights.

    Epochs before ``first_final_epoch`` are evaluated, but not selected: the predictor that the method is for does not
    exist yet.

    Args:
        folder: Where the run keeps its checkpoint.
        engine: What is trained.
        first_final_epoch: The first epoch, from 0, that may be selected.
        passes: Counts the encoder passes of training; None where they cannot be counted.
    """

    def __init__(self, folder: Path, engine: Engine, first_final_epoch: int, passes: PassCounter | None) -> None:
        self.checkpoint, self.best = folder / "checkpoint.pt", folder / "best.pt"
        self.engine, self.first_final_epoch, self.passes = engine, first_final_epoch, passes
        self.predicted: dict[str, Predictions] = {}  # by split, after the last epoch
        self.curves: dict[str, list[float]] = {}
        self.seconds = self.training_seconds = self.process_seconds = 0.0
        self.samples = self.steps = 0
        self._clock = time.perf_counter()
        if engine.optimizer is not None:
            engine.optimizer.register_step_post_hook(self._count_step)

    def _count_step(self, *_: object) -> None:
        self.steps += 1

    @contextlib.contextmanager
    def counted_training(self, samples: int) -> Iterator[None]:
        """Add one epoch's training, which happens within this context, to the cost. Evaluation is not part of it.

        Args:
            samples: How many samples it shows.
        """
        wall, process = time.perf_counter(), time.process_time()
        with contextlib.nullcontext() if self.passes is None else self.passes.counting(self.engine.device):
            yield
        self.training_seconds += time.perf_counter() - wall
        self.process_seconds += time.process_time() - process
        self.samples += samples

    def evaluate(self) -> None:
        """Predict validation and test by the current weights, and append the scores to the curves.

        Raises:
            Diverged: A logit is not finite.
        """
        try:
            self.predicted = {split: predict(self.engine, split) for split in SCORED}
        except Diverged as error:
            raise Diverged(f"{error} after epoch {max(self.engine.epoch - 1, 0)}") from None
        for split, predictions in self.predicted.items():
            for name, value in curve_scores(predictions).items():
                self.curves.setdefault(f"{split}/{name}", []).append(value)

    def best_epoch(self, split: str) -> int:
        """The selectable epoch that is best on a split; see ``record.best_epoch``."""
        return best_epoch(self.curves, split, self.first_final_epoch)

    def exported_weights(self) -> dict[str, Any]:
        """What the run would leave to others if it ended here."""
        return self.engine.strategy.export(self.engine.model).state_dict()

    def keep_best(self) -> None:
        """Put weights and predictions aside if validation has never been better. Before ``save``: a kill repeats it.

        Whether a later run will ask for the weights is not known to a run that is gone on with, so each one does.
        """
        epoch = len(self.curves["val/accuracy"]) - 1
        if is_first_rank() and epoch >= self.first_final_epoch and self.best_epoch("val") == epoch:
            kept = {
                split: {"logits": torch.from_numpy(p.logits), "label": torch.from_numpy(p.label)}
                for split, p in self.predicted.items()
            }
            modalities = list(self.predicted["val"].modalities)
            state = {"weights": self.exported_weights(), "predicted": kept, "modalities": modalities}
            save_checked(state, self.best)

    @functools.cached_property
    def selected_predictions(self) -> dict[str, Predictions]:
        """What the epoch that validation selects predicted, by split. For the first rank, once training is over."""
        best = load_checked(self.best, torch.device("cpu"))
        return {
            split: Predictions(kept["logits"].numpy(), kept["label"].numpy(), tuple(best["modalities"]))
            for split, kept in best["predicted"].items()
        }

    def export(self, path: Path, result_digest: str) -> None:
        """Leave the last and the best weights for runs that build on this one.

        Args:
            path: The file; one that is there already is left alone.
            result_digest: Of the run's record: who loads the weights checks that they belong to it.
        """
        if not path.exists():
            best = load_checked(self.best, self.engine.device)["weights"]
            save_checked({"result": result_digest, "last": self.exported_weights(), "val_best": best}, path)

    def clear(self) -> None:
        """Remove what was needed to go on: the run is over."""
        self.checkpoint.unlink(missing_ok=True)
        self.best.unlink(missing_ok=True)

    def test_scores(self, epoch: int) -> dict[str, float]:
        """The test scores after an epoch, by their names in ``RunRecord.test``."""
        return {n.removeprefix("test/"): x[epoch] for n, x in self.curves.items() if n.startswith("test/")}

    def all_curves(self) -> dict[str, list[float | None]]:
        """Training and evaluation curves, one entry per epoch; None for what is not finite."""
        named: dict[str, Sequence[float | None]] = {
            **{f"train/{n}": x for n, x in self.engine.curves.items()},
            **self.curves,
        }
        return {n: [v if v is not None and math.isfinite(v) else None for v in x] for n, x in named.items()}

    def cost(self) -> dict[str, float]:
        """What the run has cost so far, over all processes that worked on it one after the other.

        Returns:
            ``seconds`` of wall time in all, ``training_seconds`` without evaluation, ``process_seconds`` of the
            processor in training (which other work on the machine hardly changes), ``steps`` of the optimizer,
            ``encoder_forwards`` and ``encoder_backwards`` (samples, summed over modalities, where they are counted),
            trained ``parameters``, ``peak_bytes``, ``samples_per_second``.
        """
        counted = self.passes
        passes = (
            {} if counted is None else {"encoder_forwards": counted.forwards, "encoder_backwards": counted.backwards}
        )
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        if self.engine.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self.engine.device)
        return {
            "seconds": self.seconds + time.perf_counter() - self._clock,
            "training_seconds": self.training_seconds,
            "process_seconds": self.process_seconds,
            "steps": self.steps,
            **passes,
            "parameters": sum(p.numel() for p in self.engine.parameters if p.requires_grad),
            "peak_bytes": peak,
            "samples_per_second": self.samples / self.training_seconds if self.training_seconds else 0.0,
        }

    def save(self) -> None:
        """Write the checkpoint, of which ``load`` goes on."""
        now = time.perf_counter()
        self.seconds, self._clock = self.seconds + now - self._clock, now
        if is_first_rank():
            save_checked(
                {
                    "engine": self.engine.state_dict(),
                    "curves": self.curves,
                    "seconds": self.seconds,
                    "training": self.training_seconds,
                    "process": self.process_seconds,
                    "samples": self.samples,
                    "steps": self.steps,
                    "passes": None if self.passes is None else [self.passes.forwards, self.passes.backwards],
                },
                self.checkpoint,
            )

    def load(self) -> None:
        """Go on from the checkpoint, if there is one.

        Raises:
            CorruptFileError: The checkpoint is not what ``save`` wrote, or the best weights beside it are gone.
        """
        if world_size() > 1:
            dist.barrier()
        if not self.checkpoint.exists():
            return
        saved = load_checked(self.checkpoint, self.engine.device)
        if saved["engine"]["epoch"] > self.first_final_epoch and not self.best.exists():
            raise CorruptFileError(f"{self.best} is gone: delete {self.checkpoint}, too, to start this run again")
        self.engine.load_state_dict(saved["engine"])
        self.curves, self.seconds = saved["curves"], saved["seconds"]
        self.training_seconds, self.process_seconds = saved["training"], saved["process"]
        self.samples, self.steps = saved["samples"], saved["steps"]
        if self.passes is not None:
            self.passes.forwards, self.passes.backwards = saved["passes"]


@contextlib.contextmanager
def locked(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Keep other processes from working on a run; whoever comes later waits.

    With several ranks the first one holds the lock for all of them.

    Args:
        folder: The run's folder.
        shared: Others may read its files meanwhile, too.
    """
    if not is_first_rank():
        yield
        return
    path = folder / "lock"
    with contextlib.ExitStack() as stack:
        with writing(path):
            folder.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(path.open("w"))
            fcntl.flock(lock, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield


def save_checked(state: object, path: Path) -> None:
    """Write state behind its sha256, to a temporary file that is renamed: a kill leaves the old file or the new one.

    Args:
        state: Tensors, numbers and text in dictionaries and lists.
        path: The file.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_whole(path, hashlib.sha256(buffer.getbuffer()).digest() + buffer.getvalue())


def load_checked(path: Path, device: torch.device) -> Any:
    """What ``save_checked`` wrote.

    Args:
        path: The file.
        device: Where its tensors go.

    Returns:
        The state that was saved.

    Raises:
        CorruptFileError: The content does not match its checksum. Nothing of it has been interpreted by then.
    """
    content = path.read_bytes()
    if hashlib.sha256(content[32:]).digest() != content[:32]:
        raise CorruptFileError(
            f"{path} is damaged: its content does not match its checksum; delete it to start this run again"
        )
    return torch.load(io.BytesIO(content[32:]), weights_only=True, map_location=device)
