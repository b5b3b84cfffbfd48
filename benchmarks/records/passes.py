"""What training cost, as it was counted while a run ran: samples encoded, and samples differentiated."""

from __future__ import annotations

from benchmarks.records.record import RunRecord

COUNTS = ("encoder_forwards", "encoder_backwards")  # in a record's cost; with _before, of the runs it builds on


def passes(record: RunRecord) -> float | None:
    """Encoder passes of a run's training, with those of the runs it builds on.

    Args:
        record: The run.

    Returns:
        The number of samples encoded plus that of samples differentiated, summed over modalities; None for a record
        without these counts.
    """
    if not all(name in record.cost for name in COUNTS):
        return None
    return sum(record.cost[name] + record.cost.get(f"{name}_before", 0.0) for name in COUNTS)
