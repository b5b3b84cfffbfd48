"""Models trained by earlier runs: teachers, whose outputs are imitated, and weights that training starts from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ogm.context import TrainingContext
from ogm.losses import full
from ogm.strategy import Strategy
from ogm.types import Batch, Output, Prerequisite


def unimodal_prerequisites(modalities: Sequence[str]) -> dict[str, Prerequisite]:
    """Name the earlier runs of a method with unimodal teachers.

    Args:
        modalities: Names of all modalities.

    Returns:
        Modality -> a ``unimodal`` run, taken as it was after its best validation epoch.
    """
    return {m: Prerequisite("unimodal", {"modality": m}, "val_best") for m in modalities}


def check_teacher_widths(strategy: Strategy) -> None:
    """Check that the features of teachers and student can be compared.

    Args:
        strategy: A strategy that has been attached, with its teachers.

    Raises:
        ValueError: If a teacher's feature is not as wide as the student's.
    """
    for m, model in strategy._trained.items():
        width = getattr(getattr(model, "classifier", None), "in_features", None)
        if width is not None and m in strategy.dims and width != strategy.dims[m]:
            raise ValueError(
                f"{type(strategy).__name__} compares the features of teacher and student. {m}: the teacher's feature "
                f"is {width} wide, the student's, just before the fusion, {strategy.dims[m]}. Choose a fusion that "
                "takes the encoders' features as they are, such as concat"
            )


@torch.no_grad()
def run_teachers(trained: Mapping[str, nn.Module], modalities: Sequence[str], batch: Batch) -> dict[str, Output]:
    """Run the frozen teachers on a batch.

    Args:
        trained: Modality -> its unimodal model.
        modalities: The modalities whose teachers are run.
        batch: The batch that the student sees.

    Returns:
        Modality -> the teacher's output: logits (B, C) and feature (B, D_m), without a graph.
    """
    return {m: trained[m](batch.inputs[m]) for m in modalities}


@torch.no_grad()
def validation_scores(
    trained: Mapping[str, nn.Module], modalities: Sequence[str], engine: TrainingContext
) -> tuple[dict[str, float], dict[str, float]]:
    """Judge unimodal models on the validation set; a modality counts the samples that have it.

    Args:
        trained: Modality -> its unimodal model.
        modalities: Names of all modalities.
        engine: The engine of the run.

    Returns:
        Modality -> accuracy, and modality -> mean entropy of the prediction (natural logarithm), equal on all ranks;
        both are 0 for a modality that no sample has.
    """
    sums = torch.zeros(3, len(modalities), dtype=torch.float64, device=engine.device)
    for batch in engine.loaders["val"].all():
        for k, m in enumerate(modalities):
            logits, present = trained[m](batch.inputs[m]).logits, batch.has_all([m])
            log_p = full(logits).log_softmax(1)
            entropy = -(log_p.exp() * log_p).sum(1)
            sums[0, k] += ((logits.argmax(1) == batch.label) & present).sum()
            sums[1, k] += torch.where(present, entropy, 0.0).sum()
            sums[2, k] += present.sum()
    means = engine.decide(sums[:2] / sums[2].clamp_min(1))
    accuracy, entropies = (dict(zip(modalities, row, strict=True)) for row in means.tolist())
    return accuracy, entropies


def best_modality(accuracy: Mapping[str, float], entropy: Mapping[str, float]) -> str:
    """Choose the modality that predicts best alone.

    Args:
        accuracy: Modality -> accuracy.
        entropy: Modality -> mean entropy of the prediction.

    Returns:
        The modality of the highest accuracy; of several, the one of the lowest entropy, then the first.
    """
    return max(accuracy, key=lambda m: (accuracy[m], -entropy[m]))


def feature_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Compute the mean squared difference of two features, in float32 or better.

    Args:
        student: (B, D) features.
        teacher: (B, D) features.

    Returns:
        (B,) mean over the D coordinates, so that wide features do not weigh more than narrow ones.
    """
    return (full(student) - full(teacher)).square().mean(1)


def load_encoders(encoders: Mapping[str, nn.Module], trained: Mapping[str, object]) -> None:
    """Copy the weights and buffers of encoders trained earlier.

    Args:
        encoders: Modality -> the encoder to be initialised.
        trained: Modality -> the encoder trained earlier, of the same architecture.

    Raises:
        ValueError: If the two encoders of a modality have different architectures.
    """
    for m, encoder in encoders.items():
        pretrained = trained[m]
        assert isinstance(pretrained, nn.Module)
        try:
            encoder.load_state_dict(pretrained.state_dict())
        except RuntimeError:  # torch's own message has a line for each of its parts
            raise ValueError(
                f"{m}: the encoder does not have the architecture of the one that was trained earlier"
            ) from None
