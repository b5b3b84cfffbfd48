"""What a strategy needs of a model, what it knows of the one it is attached to, and what it may do to parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import nn

from ogm.checks import check_fit, check_modules
from ogm.parts.gradients import Factor, ScaledUpdate, gradients_of, multiply
from ogm.parts.heads import LinearHead, xavier_linear
from ogm.registry import id_of
from ogm.types import Prerequisite, Reads, Scope, Target


class ModelAccess(nn.Module):
    """The part of a strategy that holds the encoders and the fusion it was attached to.

    These are not registered as submodules: they belong to the model, and are saved and trained with it alone.

    Attributes:
        most_modalities: Largest number of modalities; None: any number from two on.
        needs_additive: Whether the fused logits must be a sum or mean of the unimodal ones.
        needs_concat: Whether the fused logits must come from one linear layer over all features.
        reads: What it must be given in a user's own loop, beside logits and labels.
        modalities: Names of the modalities, in configured order.
        dims: Modality -> feature width D_m; empty if ``attach`` was not told.
        num_classes: Number of classes C; 0 if ``attach`` was not told.
        num_samples: Size of the training set; 0 if ``attach`` was not told.
    """

    most_modalities: int | None = None
    needs_additive: ClassVar[bool] = False
    needs_concat: ClassVar[bool] = False
    reads: tuple[Reads, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self.modalities: tuple[str, ...] = ()
        self.dims: dict[str, int] = {}
        self.num_classes = self.num_samples = 0
        self._encoders: dict[str, nn.Module] = {}
        self._trained: dict[str, nn.Module] = {}  # a plain dict: these are saved with the runs that trained them
        self._fusion: tuple[nn.Module | None] = (None,)  # in a tuple, so that it is not registered
        self._pending: list[ScaledUpdate] = []

    @property
    def id(self) -> str:
        """The name that ``ogm.create`` knows the strategy by."""
        return id_of(type(self))

    @property
    def fusion(self) -> Any:
        """The fusion given to ``attach``. Raises ValueError if none was."""
        if self._fusion[0] is None:
            raise ValueError(f"{self.id} works on the fused head: pass fusion= to attach")
        return self._fusion[0]

    # ---- before training
    def prerequisites(self, modalities: Sequence[str]) -> dict[str, Prerequisite]:
        """Name the runs that must have been made before.

        Args:
            modalities: Names of the modalities.

        Returns:
            Name -> run; ``attach`` receives under this name what the run exports.
        """
        return {}

    def attach(
        self,
        encoders: Mapping[str, nn.Module],
        *,
        dims: Mapping[str, int] | None = None,
        num_classes: int = 0,
        num_samples: int = 0,
        fusion: nn.Module | None = None,
        trained: Mapping[str, nn.Module] | None = None,
    ) -> Self:
        """Say which module encodes which modality. Call once, before the optimizer is built.

        Args:
            encoders: Modality -> its encoder.
            dims: Modality -> feature width D_m, for strategies with heads or prototypes of their own.
            num_classes: Number of classes C, for the same.
            num_samples: Size of the training set, for strategies that keep something per sample.
            fusion: What computes logits from features, for strategies that work on it: a fusion of the suite, a module
                like them, or, with ``dims``, a ``torch.nn.Linear`` over all features side by side in their order.
            trained: Name -> what the run of that name exported, for strategies with ``prerequisites``.

        Returns:
            The strategy itself.

        Raises:
            ValueError: If one of these is missing or does not fit, such as a single modality, or a fusion that does
                not split into modalities where it must.
        """
        check_modules(self, encoders, fusion)
        if isinstance(fusion, nn.Linear) and dims:
            fusion = LinearHead(fusion, dims)
        check_fit(self, encoders, fusion, dims or {}, trained or {})
        self.modalities, self._encoders, self._trained = tuple(encoders), dict(encoders), dict(trained or {})
        self._fusion = (fusion,)
        self.dims, self.num_classes, self.num_samples = dict(dims or {}), num_classes, num_samples
        self.setup()
        return self

    def setup(self) -> None:
        """Create parameters and buffers, in their final shapes: a checkpoint is loaded into them."""

    # ---- parameters
    def head(self, modality: str) -> nn.Linear:
        """Make a linear head for a modality.

        Args:
            modality: Name of the modality.

        Returns:
            A new layer, (B, D_m) -> (B, C), with Xavier normal weights and a zero bias.

        Raises:
            ValueError: If ``attach`` was not told widths and classes.
        """
        if modality not in self.dims or not self.num_classes:
            raise ValueError(f"{self.id} owns a head per modality: pass dims= and num_classes= to attach")
        return xavier_linear(self.dims[modality], self.num_classes)

    def param_groups(self) -> list[dict[str, Any]]:
        """Return the strategy's own parameters for the run's optimizer, with options that differ from the run's.

        The option ``"clip": False`` leaves a group out when the engine clips gradients.
        """
        return [{"params": list(self.parameters())}]

    def parameters_of(self, modality: str) -> list[nn.Parameter]:
        """Return the parameters of a modality's encoder that are trained.

        Args:
            modality: Name of the modality.
        """
        return [p for p in self._encoders[modality].parameters() if p.requires_grad]

    def in_scope(self, scope: Scope) -> dict[str, list[nn.Parameter]]:
        """Return the encoder parameters that a method modulates.

        Args:
            scope: ``"weights"``: two or more dimensions, so norm layers and biases are left out; ``"conv4d"``: exactly
                four, as in the released code of OGM-GE; ``"all"``.

        Returns:
            Modality -> those of its encoder's parameters that have a gradient; all modalities, in their order.

        Raises:
            ValueError: If there is none: the method would silently be joint training.
        """
        least, most = {"weights": (2, 99), "conv4d": (4, 4), "all": (0, 99)}[scope]
        inside = {
            m: [p for p in self.parameters_of(m) if p.grad is not None and least <= p.ndim <= most]
            for m in self.modalities
        }
        if not any(inside.values()):
            raise ValueError(
                f"{self.id} found no encoder parameter with a gradient in scope {scope!r}: "
                f"are the modules given to attach ({', '.join(self.modalities)}) the ones that are trained?"
            )
        return inside

    def modulate(self, parameters: nn.Parameter | Sequence[nn.Parameter], k: Factor, target: Target) -> None:
        """Slow parameters down (k < 1) or speed them up (k > 1).

        Args:
            parameters: One parameter, or several; there may be none.
            k: The factor, a 0-dim tensor or a number; or, in a list, one 0-dim tensor per parameter, where all have a
                gradient.
            target: ``"grad"`` multiplies the gradients; ``"update"`` multiplies the update that the optimizer will
                make. Adam and its relatives undo a constant factor of the gradient, but not that of an update.
        """
        several = [parameters] if isinstance(parameters, nn.Parameter) else parameters
        if target == "grad":
            multiply(gradients_of(several), k)
        elif several:
            self._pending.append(ScaledUpdate(several, k))

    @torch.no_grad()
    def apply_update_scaling(self) -> None:
        """Scale the updates that ``modulate`` was called for: theta = before + k (after - before)."""
        for update in self._pending:
            update.apply()
        self._pending = []
