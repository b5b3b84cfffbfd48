"""Information acquisition regulation (InfoReg): early on, hold the leading encoder near its weights."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ogm.context import Context, TrainingContext
from ogm.parts.gradients import add, gradients_of, multiply
from ogm.strategies.equal_weight_multiloss import EqualWeightMultiloss
from ogm.types import Batch, Output


class InfoReg(EqualWeightMultiloss):
    """Early in training, pull the encoder of the leading modality towards the weights it had when the epoch began.

    1. L = CE(z, y) + sum_m CE(u_m, y), with u_m (B, C) the unimodal logits of the fusion (no heads of their own).
    2. After the backward pass: s_m = sum over the global batch of softmax(u_m)[y].
    3. If s_m is above the score r of the other modality (for three or more modalities: above the mean r of all scores)
       and the window of encoder m is open: g <- g + beta_m exp(tanh(s_m - r)) (theta - theta_0) for all parameters
       theta of encoder m. theta_0 are their values when the epoch began.
    4. Fisher trace of encoder m in an epoch: the squared gradients, summed over the steps, averaged within each weight
       tensor and summed over these. The window is open in the first epoch, and later if (now - before) / now >
       threshold. "now" is the mean trace of the last ``window`` epochs, "before" the same mean one epoch earlier; the
       traces of epochs before the first are 0.

    s_m is a sum over the batch, so the tanh soon saturates, as in the released code. The prediction is argmax z.

    Args:
        beta: Strength of the pull, 0 or more: one number for all modalities, or a mapping from modality to number (0.95
            for a modality it does not name).
        threshold: Smallest relative growth of the Fisher trace for an open window. Released: 0.05; 0.04 in the first
            release.
        window: Number of epochs over which traces are averaged, at least 1.

    Differences:
        - Released code, for CREMA-D: beta is 0.95 for audio and 0.1 for visual. Ours: 0.95 for every modality, unless
          set otherwise (``beta={"audio": 0.95, "visual": 0.1}``); the suite's runs on CREMA-D have the released values.
        - Released code: the trace of audio opens the windows of both modalities. Ours: each has its own.
        - Released code: three further backward passes, for logs only. Ours: none.
        - Released code: two modalities. The rule for three or more is ours.

    References:
        - Paper: Huang et al., CVPR 2025 (arXiv 2503.18595).
        - Code: GeWu-Lab/InfoReg_CVPR2025 at 939b2ed.
    """

    category = "gradient"
    title = "Adaptive unimodal regulation of information acquisition"
    paper = "Huang et al., CVPR 2025"
    needs_engine = True
    fisher: Tensor
    traces: Tensor

    def __init__(self, beta: float | Mapping[str, float] = 0.95, threshold: float = 0.05, *, window: int = 10) -> None:
        super().__init__(heads="shared")
        betas = list(beta.values()) if isinstance(beta, Mapping) else [beta]
        if any(not b >= 0 for b in betas) or window < 1:
            raise ValueError(f"beta={beta}, window={window}: needs beta >= 0 and a window of 1 epoch or more")
        self.beta = dict(beta) if isinstance(beta, Mapping) else beta
        self.threshold, self.window = threshold, window
        self._epoch_start: dict[str, list[Tensor]] = {}  # modality with an open window -> its encoder's theta_0

    def setup(self) -> None:
        """Check ``beta``, and create buffers for the Fisher traces."""
        unknown = self.beta.keys() - set(self.modalities) if isinstance(self.beta, dict) else set()
        if unknown:
            raise ValueError(f"beta: no modality {sorted(unknown)}; there are {list(self.modalities)}")
        self.register_buffer("fisher", torch.zeros(len(self.modalities)))  # of this epoch
        self.register_buffer("traces", torch.zeros(len(self.modalities), self.window + 1))

    def beta_of(self, modality: str) -> float:
        """The strength of the pull for one modality."""
        return self.beta.get(modality, 0.95) if isinstance(self.beta, dict) else self.beta

    def on_epoch_start(self, engine: TrainingContext) -> None:
        """Decide which windows are open, and keep those encoders' weights theta_0."""
        still_growing = relative_growth(self.traces) > self.threshold
        windows = still_growing.tolist() if engine.epoch > 0 else [True] * len(self.modalities)
        self._epoch_start = {
            m: [p.detach().clone() for p in self._encoders[m].parameters()]
            for m, is_open in zip(self.modalities, windows, strict=True)
            if is_open
        }
        self.fisher.zero_()

    def on_epoch_end(self, engine: TrainingContext) -> None:
        """Store the Fisher traces of the epoch."""
        self.traces.copy_(torch.cat([self.traces[:, 1:], self.fisher[:, None]], 1))

    @torch.no_grad()
    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        """Pull leading encoders towards theta_0, and add to the Fisher traces (steps 2 to 4)."""
        scores = self.scores(output, batch, ctx)
        self.log_ratios(scores, ctx)
        pull = pull_strengths(scores, {m: self.beta_of(m) for m in self.modalities})
        for m, start in self._epoch_start.items():
            pairs = zip(self._encoders[m].parameters(), start, strict=True)
            moved = {p: at_start for p, at_start in pairs if p.grad is not None}
            if moved:
                way = torch._foreach_sub(list(moved), list(moved.values()))
                multiply(way, pull[m])
                add(gradients_of(moved), way)
        ctx.log(**{f"strength/{m}": pull[m] if m in self._epoch_start else 0.0 for m in self.modalities})
        weights = self.in_scope("weights").values()
        self.fisher += torch.stack([fisher_trace(gradients_of(p)) if p else self.fisher.new_zeros(()) for p in weights])


def fisher_trace(gradients: list[Tensor]) -> Tensor:
    """Add up the mean squares of gradients.

    Args:
        gradients: One or more tensors of any shape.

    Returns:
        0-dim float64 sum over the tensors of the mean of the squared elements.
    """
    norms = torch._foreach_norm(gradients, 2, dtype=torch.float64)
    return torch.stack(torch._foreach_div(norms, [math.sqrt(g.numel()) for g in gradients])).square().sum()


def pull_strengths(scores: Mapping[str, Tensor], beta: Mapping[str, float]) -> dict[str, Tensor]:
    """Strengths of the pull.

    Args:
        scores: Modality -> 0-dim sum of true-class probabilities s_m.
        beta: Modality -> beta_m.

    Returns:
        Modality -> 0-dim beta_m exp(tanh(s_m - r)) where s_m > r, else 0, also where s_m is NaN. r is the score of the
        other modality; for three or more modalities the mean of all scores.
    """
    pull, mean = {}, torch.stack(list(scores.values())).mean()
    for m, s in scores.items():
        gap = (s - mean) * (2 if len(scores) == 2 else 1)  # of two, twice the gap to the mean is that to the other
        pull[m] = torch.where(gap > 0, beta[m] * torch.exp(torch.tanh(gap)), 0.0)
    return pull


def relative_growth(traces: Tensor) -> Tensor:
    """Relative growth of the mean Fisher trace.

    Args:
        traces: (..., W + 1) traces of the last W + 1 epochs, the newest last.

    Returns:
        (...) (now - before) / now, with now the mean of the newest W and before the mean of the oldest W; 0 where now
        is 0.
    """
    now, before = traces[..., 1:].mean(-1), traces[..., :-1].mean(-1)
    return torch.where(now > 0, (now - before) / now, 0.0)
