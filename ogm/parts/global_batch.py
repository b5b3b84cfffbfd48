"""The samples of all ranks in one order, for methods that compare samples with each other."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from ogm.losses import gather


class GlobalOrder(NamedTuple):
    """The order of the global batch: by sample number, so that it does not depend on how ranks share the samples.

    Attributes:
        order: (N,) which of the gathered rows stands at each position.
        own: (B,) the positions of this rank's samples.
    """

    order: Tensor
    own: Tensor

    def rows(self, x: Tensor) -> Tensor:
        """Gather the rows of all ranks, see ``ogm.losses.gather``, and put them in order.

        Args:
            x: (B, ...) rows of this rank.

        Returns:
            (N, ...) rows of the global batch.
        """
        return gather(x)[0][self.order]


def global_order(index: Tensor) -> GlobalOrder:
    """Find the order of the global batch.

    Args:
        index: (B,) sample numbers of this rank. Equal numbers keep the order of their ranks.

    Returns:
        The order, the same on all ranks but for ``own``.
    """
    everyone, start = gather(index)
    order = everyone.argsort(stable=True)
    return GlobalOrder(order, order.argsort()[start : start + len(index)])
