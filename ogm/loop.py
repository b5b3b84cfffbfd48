"""A strategy in somebody else's loop: what it was told, and what it must remember from one call to the next."""

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
    """What ``transform`` was given, and what it made of it."""

    given: dict[str, Tensor]
    edited: dict[str, Tensor]
    batch: Batch
    ctx: Context


class Gradients:
    """The gradients of some parameters at one moment, to be recognised later. No tensor is kept alive."""

    def __init__(self, parameters: Iterable[nn.Parameter] = ()) -> None:
        found = [p.grad for p in parameters if p.grad is not None]
        self.seen = [(TensorWeakRef(g), g._version) for g in found]

    def __bool__(self) -> bool:
        return bool(self.seen)

    def are_still(self, parameters: Iterable[nn.Parameter]) -> bool:
        """Are these parameters' gradients the same tensors, which nobody has written to since?"""
        found = [p.grad for p in parameters if p.grad is not None]
        return len(found) == len(self.seen) and all(
            ref() is g and version == g._version for g, (ref, version) in zip(found, self.seen, strict=True)
        )


@dataclass
class Loop:
    """What a strategy knows of the loop it is in."""

    transformed: Transformed | None = None
    parts: list[tuple[Output, Batch]] = field(default_factory=list)  # micro-batches that wait for the others
    accumulate_to: int | None = None
    encoders: Gradients = field(default_factory=Gradients)  # as the last backward left them
    own: Gradients = field(default_factory=Gradients)
    hook: RemovableHandle | None = None  # scales updates after the optimizer's step

    def transform(
        self, strategy: Strategy, features: Mapping[str, Tensor], label: Tensor | Batch, ctx: Context
    ) -> dict[str, Tensor]:
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
        """Everything that can be refused is refused first; then one step as in ``Strategy.step``."""
        checks.check_attached(strategy)
        batch = self.as_batch(strategy, label)
        checks.check_batch(strategy, batch)
        checks.check_output(strategy, output, batch)
        checks.check_optimizer(strategy, ctx)
        batch = self.after_transform(strategy, output, batch, ctx)
        self.begin(strategy, batch, accumulate_to)

        ctx.share = 1.0 if accumulate_to is None else len(batch) / accumulate_to
        output = strategy.read(comparable(strategy, output))
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
        """Samples without numbers are numbered by their place in the step, through micro-batches and ranks."""
        if isinstance(label, Batch):
            return label
        checks.check_label(strategy, label)
        first = samples(self.parts)
        if world_size() > 1:
            first += dist.get_rank() << 32
        return Batch({}, label, torch.arange(first, first + len(label), device=label.device))

    def after_transform(self, strategy: Strategy, output: Output, batch: Batch, ctx: Context) -> Batch:
        """The batch as ``transform`` left it, where it was called; the context goes on with its logs."""
        before, self.transformed = self.transformed, None
        if not strategy.edits_features:
            return batch
        if before is None:
            raise ValueError(
                f"{strategy.id} edits features before they are fused: call features = strategy.transform(features, "
                "label, ...) in every training step, between the encoders and the fusion"
            )
        here, there = ((c.epoch, c.epochs, c.fraction, c.seed) for c in (ctx, before.ctx))
        if here != there or len(batch) != len(before.batch):
            raise ValueError(
                f"{strategy.id}: transform was told (epoch, epochs, fraction, seed) = {there} and {len(before.batch)} "
                f"samples, backward {here} and {len(batch)}: give both the same"
            )
        if any(f is before.given[m] and f is not before.edited[m] for m, f in output.features.items()):
            raise ValueError(f"{strategy.id}: the output has the features that transform was given, not its result")
        ctx.logs.update(before.ctx.logs)
        return before.batch

    def begin(self, strategy: Strategy, batch: Batch, accumulate_to: int | None) -> None:
        """Begin a step, or go on with its next micro-batch. Raises ValueError where the loop lost or kept gradients."""
        if accumulate_to is not None:
            checks.check_micro_batch(strategy, batch, accumulate_to)
        done, (encoders, own) = samples(self.parts), trainable(strategy)
        if self.parts and not self.encoders.are_still(encoders):
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
        if self.encoders and self.encoders.are_still(encoders):
            raise ValueError(
                f"{strategy.id}: the gradients of the last backward are still there, already modulated: call "
                "optimizer.zero_grad() in every step; to accumulate gradients, pass accumulate_to="
            )
        if self.own and self.own.are_still(own):
            raise ValueError(checks.not_trained(strategy))
        strategy.discard_step()
        if self.hook is not None:  # the hook cannot remove itself: optimizers are going through their hooks then
            self.hook.remove()
            self.hook = None

    def scale_updates(self, strategy: Strategy, ctx: Context) -> None:
        """Scale the updates that ``modulate`` was told to, after the optimizer's next step; not if it is skipped."""
        if not strategy._pending:
            return
        if ctx.optimizer is None:  # a method of one's own that does not declare ``needs_optimizer``
            strategy.discard_step()
            raise ValueError(checks.needs_optimizer(strategy))
        self.hook = ctx.optimizer.register_step_post_hook(lambda *_: strategy.shorten_updates())


def finish(strategy: Strategy, parts: Sequence[tuple[Output, Batch]], ctx: Context) -> None:
    """All samples of the step are differentiated: act on their gradients, once."""
    output, batch = parts[0]
    if len(parts) > 1:
        output, batch = Output.cat([o for o, _ in parts]), Batch.cat([b for _, b in parts])
    average_gradients(trainable(strategy)[1])  # DistributedDataParallel has not seen them
    ctx.finish_gradients()
    strategy.on_gradients(output, batch, ctx)


def samples(parts: Sequence[tuple[Output, Batch]]) -> int:
    return sum(len(batch) for _, batch in parts)


def trainable(strategy: Strategy) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The encoders' parameters, and the strategy's own."""
    encoders = [p for m in strategy.modalities for p in strategy.parameters_of(m)]
    return encoders, [p for p in strategy.parameters() if p.requires_grad]


def comparable(strategy: Strategy, output: Output) -> Output:
    """Logits in float32 at least; features in half precision in the type of the layers that read them."""
    readers = [module for module in (strategy, strategy._fusion[0]) if module is not None]
    kinds = {p.dtype for module in readers for p in module.parameters()}
    kind = kinds.pop() if len(kinds) == 1 else torch.float32
    return replace(
        output,
        logits=full(output.logits),
        unimodal_logits={m: full(z) for m, z in output.unimodal_logits.items()},
        features={m: f.to(kind) if f.itemsize < 4 else f for m, f in output.features.items()},
        aux_logits={n: full(z) for n, z in output.aux_logits.items()},
    )
