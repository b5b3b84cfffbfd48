"""Joint training: one loss on the fused prediction. What every method is compared with."""

from ogm.strategy import Strategy


class Vanilla(Strategy):
    """L = CE(logits, label), and nothing else (spec methods_gradient.md, 3.1)."""

    category = "baseline"
    paper = "this suite"
    touches = "nothing"

    def __init__(self) -> None:
        super().__init__()
