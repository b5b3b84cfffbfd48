"""Diagnose and re-learn: pull encoders back to where they started, the more the less what they learned carries over."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ogm.context import Context
from ogm.engine import Engine
from ogm.strategy import Strategy
from ogm.types import Batch, Output


class DiagnosingRelearning(Strategy):
    """Wei et al., ECCV 2024 (spec methods_gradient.md, 3.13). Training is joint training, but for this:

    after epochs ``period``, 2 ``period``, ... (from 0), ``number`` times at most, features in evaluation mode are
    clustered, for each modality, on the training and on the validation split (k-means, as many clusters as classes;
    features scaled to [-1, 1] by the split's own extremes). g_m is the difference of the two purities, a_m =
    tanh(lam g_m), and every parameter of encoder m becomes a_m (what it was before training) + (1 - a_m) (what it is).
    Running statistics and the optimizer's momentum are left alone, as in the released code; so are fusion and head.

    The validation split is the one that checkpoints are selected on. k-means has ten restarts, as it had in the
    library's version of that time. A modality that one of the splits lacks is not touched. A third-party port computes
    the first modality's validation purity from the second one's features.
    """

    category = "schedule"
    paper = "Wei et al., ECCV 2024"
    stages = "after some epochs, training and validation features are clustered and encoders partly re-initialised"
    touches = "nothing"
    needs_engine = True
    strength: Tensor

    def __init__(self, lam: float = 3.0, *, period: int = 20, number: int = 3) -> None:
        super().__init__()
        if not (lam >= 0 and period >= 1 and number >= 0):
            raise ValueError(f"lam={lam}, period={period}, number={number}: needs lam >= 0, period >= 1, number >= 0")
        self.lam, self.period, self.number = lam, period, number

    def setup(self) -> None:
        if not self.num_classes:
            raise ValueError("DiagnosingRelearning makes one cluster per class: pass num_classes= to attach")
        kmeans(1)  # absent, it is to be missed now, not after hours
        for m in self.modalities:
            for i, p in enumerate(self._encoders[m].parameters()):
                self.register_buffer(f"initial_{m}_{i}", p.detach().clone())
        self.register_buffer("strength", torch.zeros(len(self.modalities)))  # of the last time, for the curves

    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        super().on_gradients(output, batch, ctx)
        ctx.log(**{f"relearning_strength/{m}": self.strength[i].clone() for i, m in enumerate(self.modalities)})

    @torch.no_grad()
    def on_epoch_end(self, engine: Engine) -> None:
        if not fires(engine.epoch, self.period, self.number):
            return
        found = {split: self.purities(split, engine) for split in ("train", "val")}
        gaps = [abs(found["train"][m] - found["val"][m]) for m in self.modalities]
        self.strength.copy_(engine.decide(strength(torch.tensor(gaps), self.lam).to(self.strength)))
        for i, m in enumerate(self.modalities):
            for k, p in enumerate(self._encoders[m].parameters()):
                p.copy_(relearned(p, self.get_buffer(f"initial_{m}_{k}"), self.strength[i]))

    def purities(self, split: str, engine: Engine) -> dict[str, float]:
        """modality -> how pure the clusters of its features are in a split; NaN where no sample has it."""
        features: dict[str, list[Tensor]] = {m: [] for m in self.modalities}
        labels: dict[str, list[Tensor]] = {m: [] for m in self.modalities}
        for output, batch in engine.predict(split):
            for m in self.modalities:
                here = batch.have([m])
                features[m].append(output.features[m][here].double().cpu())
                labels[m].append(batch.label[here].cpu())
        return {
            m: purity(torch.cat(labels[m]), clusters(torch.cat(features[m]), self.num_classes)) for m in self.modalities
        }


def fires(epoch: int, period: int, number: int) -> bool:
    """Is it time, after ``epoch`` (from 0)?"""
    return epoch > 0 and epoch % period == 0 and epoch // period <= number


def kmeans(number: int) -> Any:
    """scikit-learn's clustering into so many clusters."""
    try:
        from sklearn.cluster import KMeans  # type: ignore[import-untyped]
    except ImportError as error:
        raise ValueError(
            "diagnosing_relearning clusters features with scikit-learn: pip install 'ogm-balance[relearning]'"
        ) from error
    return KMeans(number, n_init=10, random_state=0)


def scaled(features: Tensor) -> Tensor:
    """(N, D) to [-1, 1] per column, by its least and largest value; a constant column to 0."""
    least, most = features.amin(0), features.amax(0)
    width = most - least
    return torch.where(width > 0, 2 * (features - least) / torch.where(width > 0, width, 1) - 1, 0.0)


def clusters(features: Tensor, classes: int) -> Tensor:
    """(N,) cluster of each feature (N, D): one cluster per class, fewer where there are fewer different features."""
    if not len(features):
        return torch.zeros(0, dtype=torch.long)
    x = scaled(features)
    number = min(classes, len(torch.unique(x, dim=0)))
    return torch.from_numpy(kmeans(number).fit_predict(x.numpy())).long()


def purity(label: Tensor, cluster: Tensor) -> float:
    """The share of samples whose label (N,) is the most frequent one of their cluster (N,); NaN without samples."""
    if not len(label):
        return float("nan")
    classes = int(label.max()) + 1
    table = torch.bincount(cluster * classes + label, minlength=(int(cluster.max()) + 1) * classes).view(-1, classes)
    return float(table.amax(1).sum()) / len(label)


def strength(gap: Tensor, lam: float) -> Tensor:
    """a = tanh(lam gap), for purity gaps of any shape; 0 where the gap is not known (NaN)."""
    return torch.tanh(lam * gap.nan_to_num(0.0))


def relearned(now: Tensor, initial: Tensor, strength: Tensor) -> Tensor:
    """strength initial + (1 - strength) now."""
    return strength * initial + (1 - strength) * now
