"""The transformer for sequences."""

from __future__ import annotations

import torch

from tests.helpers.models import check_reads_steps, encoder


def test_sequences_are_read_step_by_step() -> None:
    check_reads_steps("transformer")


def test_two_blocks_by_hand() -> None:
    made, x = encoder("transformer", (5, 3), width=8, layers=2, heads=2), torch.randn(2, 5, 3)
    tokens = made.blocks[1](made.blocks[0](made.project(x) + made.positions))
    torch.testing.assert_close(made(x), made.norm(tokens).mean(1))
