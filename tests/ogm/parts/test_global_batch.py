"""The order of the global batch."""

from __future__ import annotations

import torch

from ogm.parts.global_batch import global_order


def test_rows_stand_in_the_order_of_their_numbers() -> None:
    index = torch.tensor([7, 2, 9, 2])
    order = global_order(index)
    values = torch.arange(4.0).requires_grad_()
    rows = order.rows(values)
    assert rows.tolist() == [1, 3, 0, 2] and order.own.tolist() == [2, 0, 3, 1]
    assert torch.equal(rows[order.own], values) and torch.equal(order.rows(index), index.sort().values)
    (rows * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum().backward()  # type: ignore[no-untyped-call]
    assert values.grad is not None and values.grad.tolist() == [3, 1, 4, 2]
