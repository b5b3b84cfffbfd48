"""Diagnosing and re-learning (D&R): move encoders back towards their initial weights where they do not generalise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ogm.context import Context, TrainingContext
from ogm.strategy import Strategy
from ogm.types import Batch, Output


class DiagnosingRelearning(Strategy):
    """Joint training, with encoders that are re-initialised in part from time to time.

    An encoder is moved back more strongly the more the separability of its features differs between training and
    validation data. After epochs ``period``, 2 ``period``, ... (from 0), at most ``number`` times:
    1. Collect the features of each modality on the training and the validation split, in evaluation mode.
    2. Per modality and split: scale each coordinate to [-1, 1] by its extremes, cluster with k-means (as many clusters
       as classes), and compute the purity, the share of samples that have the most frequent label of their cluster.
    3. g_m = |purity_train - purity_val|; a_m = tanh(lam g_m).
    4. theta_m <- a_m theta_m,init + (1 - a_m) theta_m for every parameter of encoder m.

    Fusion, head, batch-norm statistics and the optimizer's momentum are left as they are. A modality that no sample of
    a split has is left as it is.

    Args:
        lam: Strength, 0 or more.
        period: Epochs between two re-initialisations, 1 or more.
        number: Largest number of re-initialisations, 0 or more. The defaults are the released ones, for 50 epochs.

    Differences:
        - Paper, released code and ours agree on the steps above.
        - Ours: k-means has 10 restarts, which was scikit-learn's default before version 1.4 (now 1), and seed 0.
        - Ours: the validation split is the one that selects checkpoints.

    References:
        - Paper: Wei et al., ECCV 2024.
        - Code: GeWu-Lab/Diagnosing_Relearning_ECCV2024 at 025085e.
    """

    category = "schedule"
    title = "Diagnosing and Re-learning"
    paper = "Wei et al., ECCV 2024"
    stages = "after some epochs, training and validation features are clustered and encoders partly re-initialised"
    touches = "nothing"
    needs_engine = True
    strength: Tensor

    def __init__(self, lam: float = 3.0, *, period: int = 20, number: int = 3) -> None:
        super().__init__()
        if not (lam >= 0 and period >= 1 and number >= 0):
            raise ValueError(
                f"lam={lam}, period={period}, number={number}: choose lam >= 0, period >= 1 and number >= 0"
            )
        self.lam, self.period, self.number = lam, period, number

    def setup(self) -> None:
        """Keep the initial weights of all encoders."""
        if not self.num_classes:
            raise ValueError("DiagnosingRelearning needs one cluster per class: pass num_classes= to attach")
        kmeans(1)  # if scikit-learn is missing, fail now and not after hours of training
        for m in self.modalities:
            for i, p in enumerate(self._encoders[m].parameters()):
                self.register_buffer(f"initial_{m}_{i}", p.detach().clone())
        self.register_buffer("strength", torch.zeros(len(self.modalities)))  # the last a_m, for the curves

    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        """Log the strengths of the last re-initialisation."""
        super().on_gradients(output, batch, ctx)
        ctx.log(**{f"relearning_strength/{m}": self.strength[i].clone() for i, m in enumerate(self.modalities)})

    @torch.no_grad()
    def on_epoch_end(self, engine: TrainingContext) -> None:
        """Re-initialise the encoders in part (steps 1 to 4), after the epochs in question."""
        if not relearns_after(engine.epoch, self.period, self.number):
            return
        purities = {split: self.purities(split, engine) for split in ("train", "val")}
        gaps = [abs(purities["train"][m] - purities["val"][m]) for m in self.modalities]
        self.strength.copy_(engine.decide(strength(torch.tensor(gaps), self.lam).to(self.strength)))
        for i, m in enumerate(self.modalities):
            for k, p in enumerate(self._encoders[m].parameters()):
                p.copy_(mix_with_initial(p, self.get_buffer(f"initial_{m}_{k}"), self.strength[i]))

    def purities(self, split: str, engine: TrainingContext) -> dict[str, float]:
        """Compute the purity of the clusters of each modality's features (steps 1 and 2).

        Args:
            split: Name of the split.
            engine: The engine of the run.

        Returns:
            Modality -> purity, in [0, 1]; NaN where no sample has the modality.
        """
        features: dict[str, list[Tensor]] = {m: [] for m in self.modalities}
        labels: dict[str, list[Tensor]] = {m: [] for m in self.modalities}
        for output, batch in engine.predict(split):
            for m in self.modalities:
                present = batch.has_all([m])
                features[m].append(output.features[m][present].double().cpu())
                labels[m].append(batch.label[present].cpu())
        return {
            m: purity(torch.cat(labels[m]), cluster_features(torch.cat(features[m]), self.num_classes))
            for m in self.modalities
        }


def relearns_after(epoch: int, period: int, number: int) -> bool:
    """Whether encoders are re-initialised after an epoch.

    Args:
        epoch: Number of the epoch, from 0.
        period: Epochs between two re-initialisations.
        number: Largest number of re-initialisations.

    Returns:
        True after epochs period, 2 period, ..., number period.
    """
    return epoch > 0 and epoch % period == 0 and epoch // period <= number


def kmeans(number: int) -> Any:
    """The k-means estimator of scikit-learn, with 10 restarts and seed 0.

    Args:
        number: Number of clusters.

    Returns:
        The estimator.

    Raises:
        ValueError: If scikit-learn is not installed.
    """
    try:
        from sklearn.cluster import KMeans
    except ImportError as error:
        raise ValueError(
            "diagnosing_relearning clusters features with scikit-learn: pip install 'ogm-balance[relearning]'"
        ) from error
    return KMeans(number, n_init=10, random_state=0)


def scale_columns(features: Tensor) -> Tensor:
    """Scale every column to [-1, 1] by its smallest and largest value.

    Args:
        features: (N, D).

    Returns:
        (N, D); a constant column becomes 0.
    """
    smallest, largest = features.amin(0), features.amax(0)
    width = largest - smallest
    return torch.where(width > 0, 2 * (features - smallest) / torch.where(width > 0, width, 1) - 1, 0.0)


def cluster_features(features: Tensor, classes: int) -> Tensor:
    """Cluster features with k-means.

    Args:
        features: (N, D).
        classes: Number of clusters; fewer where there are fewer distinct features.

    Returns:
        (N,) number of the cluster of each feature.
    """
    if not len(features):
        return torch.zeros(0, dtype=torch.long)
    x = scale_columns(features)
    number = min(classes, len(torch.unique(x, dim=0)))
    return torch.from_numpy(kmeans(number).fit_predict(x.numpy())).long()


def purity(label: Tensor, cluster: Tensor) -> float:
    """Share of the samples whose label is the most frequent one in their cluster.

    Args:
        label: (N,).
        cluster: (N,) number of the cluster.

    Returns:
        The share, in [0, 1]; NaN without samples.
    """
    if not len(label):
        return float("nan")
    classes = int(label.max()) + 1
    table = torch.bincount(cluster * classes + label, minlength=(int(cluster.max()) + 1) * classes).view(-1, classes)
    return float(table.amax(1).sum()) / len(label)


def strength(gap: Tensor, lam: float) -> Tensor:
    """Strength of the re-initialisation.

    Args:
        gap: Differences of the purities, any shape; NaN where one is not known.
        lam: Factor.

    Returns:
        tanh(lam gap); 0 where the gap is NaN.
    """
    return torch.tanh(lam * gap.nan_to_num(0.0))


def mix_with_initial(now: Tensor, initial: Tensor, strength: Tensor) -> Tensor:
    """Mixture of a parameter's initial and present value.

    Args:
        now: Present value.
        initial: Initial value, of the same shape.
        strength: 0-dim weight of the initial value.

    Returns:
        strength initial + (1 - strength) now.
    """
    return strength * initial + (1 - strength) * now
