"""The Conformer."""

from __future__ import annotations

from tests.helpers.models import check_reads_steps


def test_sequences_are_read_step_by_step() -> None:
    check_reads_steps("conformer")
