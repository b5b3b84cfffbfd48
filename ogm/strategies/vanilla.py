"""Vanilla joint training: one cross-entropy on the fused prediction. Every other method is compared with it."""

from ogm.strategy import Strategy


class Vanilla(Strategy):
    """Joint training of all encoders and of the fusion, without any balancing.

    L = CE(z, y), where z (B, C) are the fused logits and y (B,) the labels. The prediction is argmax z.

    Differences:
        - Released code: the training scripts of many methods select the checkpoint on the test set. Ours: this suite
          selects on a validation split.
        - BalanceBenchmark calls this method ``baseline``.

    References:
        - Paper: the joint-training baseline of Peng et al., CVPR 2022 (arXiv 2203.15332).
        - Code: GeWu-Lab/OGM-GE_CVPR2022 at 343dc1d; GeWu-Lab/BalanceBenchmark at 4c1482f.
    """

    category = "baseline"
    title = "Joint training without balancing"
    paper = "this suite"
    touches = "nothing"

    def __init__(self) -> None:
        super().__init__()
