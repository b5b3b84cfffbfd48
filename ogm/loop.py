"""A strategy in a user's own loop: what it was given, and what it must remember from one call to the next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import TensorWeakRef

from ogm import checks
from ogm.context import Context, average_gradients, world_size
from ogm.losses import full
from ogm.types import Batch, Output

if TYPE_CHECKING:
    from ogm.strategy import Strategy


class Transformed(NamedTuple):
    """What ``transform`` was given and returned.

    Attributes:
        given: Modality -> (B, D_m) features before.
        edited: Modality -> (B, D_m) features afterwards.
        batch: The batch afterwards.
        ctx: The context, with its logs.
    """

    given: dict[str, Tensor]
    edited: dict[str, Tensor]
    batch: Batch
    ctx: Context


class Gradients:
    """The gradients of some parameters at one moment, to be recognised later. No tensor is kept alive.

    Args:
        parameters: The parameters.
    """

    def __init__(self, parameters: Iterable[nn.Parameter] = ()) -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        self.versions = [(TensorWeakRef(g), g._version) for g in gradients]

    def __bool__(self) -> bool:
        return bool(self.versions)

    def unchanged(self, parameters: Iterable[nn.Parameter]) -> bool:
        """Return whether the parameters' gradients are the same tensors, not written to since.

        Args:
            parameters: The same parameters as before.
        """
        gradients = [p.grad for p in parameters if p.grad is not None]
        return len(gradients) == len(self.versions) and all(
            ref() is g and version == g._version for g, (ref, version) in zip(gradients, self.versions, strict=True)
        )


@dataclass
class Loop:
    """What a strategy remembers in a user's own loop.

    Attributes:
        transformed: The last call of ``transform``, until ``backward`` takes it.
        parts: Micro-batches of a step that is not complete.
        accumulate_to: Number of samples in the whole batch of this step; None: gradients are not accumulated.
        encoders: The encoders' gradients as the last ``backward`` left them.
        own: The same of the strategy's own parameters.
        hook: Scales updates after the optimizer's step.
    """

    transformed: Transformed | None = None
    parts: list[tuple[Output, Batch]] = field(default_factory=list)
    accumulate_to: int | None = None
    encoders: Gradients = field(default_factory=Gradients)
    own: Gradients = field(default_factory=Gradients)
    hook: RemovableHandle | None = None

    def transform(
        self, strategy: Strategy, features: Mapping[str, Tensor], label: Tensor | Batch, ctx: Context
    ) -> dict[str, Tensor]:
        """Edit features, see ``Strategy.transform``.

        Args:
            strategy: The strategy.
            features: Modality -> (B, D_m).
            label: (B,) labels, or a batch.
            ctx: Epoch, step and seed.

        Returns:
            Modality -> (B, D_m).

        Raises:
            ValueError: If something does not fit.
        """
        checks.check_attached(strategy)
        batch = self.as_batch(strategy, label)
        checks.check_batch(strategy, batch)
        checks.check_features(strategy, features, len(batch))
        given = dict(features)
        if not strategy.training:
            return given
        checks.check_complete(strategy, "features", given)
        edited, batch = strategy.on_features(given, batch, ctx)
        self.transformed = Transformed(given, edited, batch, ctx)
        return edited

    def backward(
        self, strategy: Strategy, output: Output, label: Tensor | Batch, ctx: Context, accumulate_to: int | None
    ) -> Tensor:
        """Check everything that can be checked, then do what ``Strategy.step`` does, but for the update.

        Args:
            strategy: The strategy.
            output: What the network computed.
            label: (B,) labels, or a batch.
            ctx: Epoch, step, seed, optimizer and loss scale.
            accumulate_to: Number of samples in the whole batch, if this is a micro-batch.

        Returns:
            0-dim loss, detached.

        Raises:
            ValueError: If something is missing or does not fit.
        """
        checks.check_attached(strategy)
        batch = self.as_batch(strategy, label)
        checks.check_batch(strategy, batch)
        checks.check_output(strategy, output, batch)
        checks.check_optimizer(strategy, ctx)
        batch = self.after_transform(strategy, output, batch, ctx)
        self.begin(strategy, batch, accumulate_to)

        ctx.share = 1.0 if accumulate_to is None else len(batch) / accumulate_to
        output = strategy.replace_unimodal_logits(in_full_precision(strategy, output))
        losses = strategy.losses(output, batch, ctx)
        strategy.differentiate(losses, ctx)
        self.parts.append((output.detach(), batch))
        if accumulate_to is None or samples(self.parts) == accumulate_to:
            parts, self.parts = self.parts, []
            finish(strategy, parts, ctx)
            self.scale_updates(strategy, ctx)
        self.accumulate_to = accumulate_to
        self.encoders, self.own = (Gradients(p) for p in trainable(strategy))
        return torch.stack([loss.detach() for loss in losses.values()]).sum() * ctx.share

    def as_batch(self, strategy: Strategy, label: Tensor | Batch) -> Batch:
        """Make a batch of labels; samples are numbered by their position in the step, over micro-batches and ranks.

        Args:
            strategy: The strategy.
            label: (B,) labels, or a batch, which is returned as it is.

        Returns:
            A batch without inputs.
        """
        if isinstance(label, Batch):
            return label
        checks.check_label(strategy, label)
        first = samples(self.parts)
        if world_size() > 1:
            first += dist.get_rank() << 32
        return Batch({}, label, torch.arange(first, first + len(label), device=label.device))

    def after_transform(self, strategy: Strategy, output: Output, batch: Batch, ctx: Context) -> Batch:
        """Take over the batch and the logs that ``transform`` left, for a strategy that edits features.

        Args:
            strategy: The strategy.
            output: What the network computed afterwards.
            batch: The batch given to ``backward``.
            ctx: The context of ``backward``, which receives the logs.

        Returns:
            The batch to go on with.

        Raises:
            ValueError: If ``transform`` was owed and not called, or called for something else.
        """
        before, self.transformed = self.transformed, None
        if not strategy.edits_features:
            return batch
        if before is None:
            raise ValueError(
                f"{strategy.id} edits features before they are fused: call features = strategy.transform(features, "
                "label, ...) in every training step, between the encoders and the fusion"
            )
        now, then = ((c.epoch, c.epochs, c.fraction, c.seed) for c in (ctx, before.ctx))
        if now != then or len(batch) != len(before.batch):
            raise ValueError(
                f"{strategy.id}: transform was told (epoch, epochs, fraction, seed) = {then} and {len(before.batch)} "
                f"samples, backward {now} and {len(batch)}: give both the same"
            )
        if any(f is before.given[m] and f is not before.edited[m] for m, f in output.features.items()):
            raise ValueError(f"{strategy.id}: the output has the features that transform was given, not its result")
        ctx.logs.update(before.ctx.logs)
        return before.batch

    def begin(self, strategy: Strategy, batch: Batch, accumulate_to: int | None) -> None:
        """Begin a step, or go on with its next micro-batch.

        Args:
            strategy: The strategy.
            batch: The batch or micro-batch.
            accumulate_to: Number of samples in the whole batch, if this is a micro-batch.

        Raises:
            ValueError: If gradients were lost within a step, or not cleared before it, or micro-batches do not add up.
        """
        if accumulate_to is not None:
            checks.check_micro_batch(strategy, batch, accumulate_to)
        done, (encoders, own) = samples(self.parts), trainable(strategy)
        if self.parts and not self.encoders.unchanged(encoders):
            strategy.discard_step()
            raise ValueError(
                f"{strategy.id}: {done} of accumulate_to={self.accumulate_to} samples had come, and their gradients "
                "are gone or changed: complete a batch before step() and zero_grad(), or drop it by discard_step()"
            )
        if self.parts and accumulate_to != self.accumulate_to:
            raise ValueError(
                f"{strategy.id}: accumulate_to={accumulate_to}, but the micro-batches before had {self.accumulate_to}: "
                "it is the number of samples in the whole batch, the same for all its parts"
            )
        if accumulate_to is not None and done + len(batch) > accumulate_to:
            raise ValueError(
                f"{strategy.id}: {done} and {len(batch)} samples are more than accumulate_to={accumulate_to}, the "
                "number of samples in the whole batch"
            )
        if self.parts:
            return
        if self.encoders and self.encoders.unchanged(encoders):
            raise ValueError(
                f"{strategy.id}: the gradients of the last backward are still there, already modulated: call "
                "optimizer.zero_grad() in every step; to accumulate gradients, pass accumulate_to="
            )
        if self.own and self.own.unchanged(own):
            raise ValueError(checks.message_not_trained(strategy))
        strategy.discard_step()
        if self.hook is not None:  # it cannot remove itself while the optimizer iterates over its hooks
            self.hook.remove()
            self.hook = None

    def scale_updates(self, strategy: Strategy, ctx: Context) -> None:
        """Scale updates after the optimizer's next step, if ``modulate`` was called for any; not if it is skipped.

        Args:
            strategy: The strategy.
            ctx: Knows the optimizer.

        Raises:
            ValueError: If the optimizer is not known.
        """
        if not strategy._pending:
            return
        if ctx.optimizer is None:  # a user's method that does not declare ``needs_optimizer``
            strategy.discard_step()
            raise ValueError(checks.message_optimizer_missing(strategy))
        self.hook = ctx.optimizer.register_step_post_hook(lambda *_: strategy.apply_update_scaling())


def finish(strategy: Strategy, parts: Sequence[tuple[Output, Batch]], ctx: Context) -> None:
    """Act on the gradients of a step, once, after all its samples were differentiated.

    Args:
        strategy: The strategy.
        parts: Outputs and batches of all micro-batches.
        ctx: Communication between ranks, and the loss scale.
    """
    output, batch = parts[0]
    if len(parts) > 1:
        output, batch = Output.cat([o for o, _ in parts]), Batch.cat([b for _, b in parts])
    average_gradients(trainable(strategy)[1])  # DistributedDataParallel has not seen them
    ctx.finish_gradients()
    strategy.on_gradients(output, batch, ctx)


def samples(parts: Sequence[tuple[Output, Batch]]) -> int:
    """Count the samples of micro-batches."""
    return sum(len(batch) for _, batch in parts)


def trainable(strategy: Strategy) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the encoders' parameters that are trained, and the strategy's own."""
    encoders = [p for m in strategy.modalities for p in strategy.parameters_of(m)]
    return encoders, [p for p in strategy.parameters() if p.requires_grad]


def in_full_precision(strategy: Strategy, output: Output) -> Output:
    """Convert logits to float32 at least, and features in half precision to the type of the layers that use them.

    Args:
        strategy: The strategy, whose layers and fusion use the features.
        output: What the network computed.

    Returns:
        The converted output.
    """
    modules = [module for module in (strategy, strategy._fusion[0]) if module is not None]
    dtypes = {p.dtype for module in modules for p in module.parameters()}
    dtype = dtypes.pop() if len(dtypes) == 1 else torch.float32
    return replace(
        output,
        logits=full(output.logits),
        unimodal_logits={m: full(z) for m, z in output.unimodal_logits.items()},
        features={m: f.to(dtype) if f.itemsize < 4 else f for m, f in output.features.items()},
        aux_logits={n: full(z) for n, z in output.aux_logits.items()},
    )
