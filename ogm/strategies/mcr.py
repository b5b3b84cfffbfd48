"""Multimodal Competition Regularizer (MCR): each encoder is rewarded for making its own permutation matter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ogm.checks import check_complete
from ogm.context import Context
from ogm.losses import full, jensen_shannon, supervised_contrast
from ogm.parts.global_batch import GlobalOrder, global_order
from ogm.parts.heads import add_parts, additive_parts, width_adapters
from ogm.parts.teachers import load_encoders, unimodal_prerequisites
from ogm.seeds import fold_in
from ogm.shapley import coalitions
from ogm.strategy import Strategy
from ogm.types import Batch, Output, Prerequisite

Game = Literal["greedy", "independent", "collaborative"]
CountedPairs = Literal["all", "other_label", "other_sample"]
Combine = Callable[[Mapping[str, Tensor]], Tensor]
REDRAWS = 100  # how often a permutation is drawn again that leaves at most one pair


class MCR(Strategy):
    """Reward each encoder for making a permutation of its own features within the batch move the prediction.

    How far a prediction moves when a modality's features are permuted is that modality's share in it. With the fused
    logits z (B, C), z = sum_m u_m of an additive fusion, and natural logarithms:
    1. Draw permutations pi_m of the batch, ``draws`` times. For every non-empty proper subset X of the modalities,
       z^X[i] = sum over m in X of u_m[pi_m(i)] + sum over the others of u_m[i].
    2. J(e|X) is the mean over draws and counted positions i of the Jensen-Shannon divergence of softmax z^X[i] and
       softmax z[i]. In z^X all parts but that of modality e are without gradient; z has its gradient.
    3. The game's loss: ``"greedy"``: l sum over X and e of s J(e|X), with s = -1 if e is in X, else +1.
       ``"independent"``: the terms with e in X alone. ``"collaborative"``: -l sum over X of J with nothing detached.
       For two modalities the greedy loss is always 0, and its gradient is not.
    4. L_con: the features of all modalities, normalised, are M B rows with labels; the mean over ordered pairs (a, p)
       of rows with the same label of -log(e^(s_ap / tau) / (e^(s_ap / tau) + sum over rows n of another label of
       e^(s_an / tau))), where s are cosines.
    5. L_ceb: the mean square of W2 relu(W1 sg(z)) - [h_1; ..; h_M], with linear layers W1, W2 without biases, as wide
       as the widest feature; sg cuts the gradient.
    6. L = CE(z, y) + w_uni sum_m CE(g_m(h_m), y) + (3) + w_con L_con + w_ceb L_ceb, with a linear head g_m for each
       modality.

    Prediction: argmax z. If the fusion is not additive, features are permuted and detached in place of u_m, and the
    fusion learns from every term. Permutations are of the global batch, the same on all ranks; M = 2: one for both
    modalities. A position counts if it and those that give to it have all modalities. It costs one pass through the
    encoders, and M (2^M - 2) evaluations of the fusion on ``draws`` B rows; if it is additive, 2^M - 2 sums of parts. A
    checkpoint holds the heads and, if used, W1, W2 and the layers that bring features to one width for L_con.

    Args:
        weight: l, the weight of the game, 0 or more. Published: 0.1 and 0.01 for CREMA-D, 0.01 for AVE.
        draws: Permutations per step, 1 or more. Published: 32.
        w_uni: Weight of the unimodal losses, 0 or more. Published: 0.01, and 1 for transformers.
        w_con: Weight of L_con, 0 or more. Published: 1.
        temperature: tau, above 0; the released class has 0.5 and no configuration sets it.
        w_ceb: Weight of L_ceb, 0 or more. Published: 0 for the ResNets on CREMA-D, 1 in an ablation and elsewhere.
        game: The game, see step 3. Published: ``"greedy"``.
        pairs: Positions that count: ``"all"``; ``"other_label"``: those that receive from a sample of another label;
            ``"other_sample"``: those that receive from another sample. Judged by the permutation of the first modality
            of X.
        pretrained: Start from encoders trained alone, one ``unimodal`` run per modality, as the released commands for
            ResNets do. The fair neighbour is then ``unimodal_pretrain_finetune``.

    Differences:
        - Paper: only its tables were read. The formulas are those of the released code, read but not run.
        - Released code at 338d370: the class for two modalities computes and logs steps 3 and 4 and returns the loss
          without them; the commands' ``--reg_by`` values match none of its branches, and the released configurations
          name a method that the registry does not know. The class for three modalities adds the terms. Ours: as there.
        - Released code: takes ``softmax``, ``kl_div``, ``one_hot`` and ``normalize`` from ``torch.functional``, which
          has none of them, so that the terms cannot be computed. Ours: from ``torch.nn.functional``.
        - Released code: encodes the batch a second time in evaluation mode for the permuted features. Ours: one pass.
        - Released code: starts from encoders trained alone. Ours: from scratch unless ``pretrained``, so that every
          method has the same budget.
        - Released code: draws permutations until more than one pair is left, for ever in a batch of one class. Ours: a
          permutation is drawn again at most 100 times by shifting it, without waiting for the device, and then the draw
          counts as 0.
        - Released code: "collaborative" with three modalities uses the term of the first three times. Ours: each once.
        - Features of different widths: not in the released code. Ours: linear layers to the largest width for L_con.

    References:
        - Paper: Kontras et al., "Balancing Multimodal Training Through Game-Theoretic Regularization", NeurIPS 2025,
          arXiv 2411.07335.
        - Code: kkontras/MCR at 338d370.
    """

    category = "loss"
    title = "Multimodal Competition Regularizer"
    paper = "Kontras et al., NeurIPS 2025"
    stages = "with pretrained: one unimodal run per modality first"
    needs_whole_batch = True
    reads = ("features", "fusion")

    def __init__(
        self,
        weight: float = 0.1,
        draws: int = 32,
        w_uni: float = 0.01,
        w_con: float = 1.0,
        temperature: float = 0.5,
        w_ceb: float = 0.0,
        *,
        game: Game = "greedy",
        pairs: CountedPairs = "all",
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        if not all(w >= 0 for w in (weight, w_uni, w_con, w_ceb)):
            raise ValueError(
                f"weight={weight}, w_uni={w_uni}, w_con={w_con}, w_ceb={w_ceb}: a weight of a loss must be 0 or more"
            )
        if not (draws >= 1 and temperature > 0):
            raise ValueError(f"draws={draws}, temperature={temperature}: choose draws >= 1 and temperature > 0")
        self.weight, self.draws, self.temperature = weight, draws, temperature
        self.w_uni, self.w_con, self.w_ceb = w_uni, w_con, w_ceb
        self.game, self.pairs, self.pretrained = game, pairs, pretrained
        self.heads, self.adapters, self.bottleneck = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleList()

    def prerequisites(self, modalities: Sequence[str]) -> dict[str, Prerequisite]:
        """Name one ``unimodal`` run per modality, if encoders are to start from them."""
        return unimodal_prerequisites(modalities) if self.pretrained else {}

    def setup(self) -> None:
        """Create what the losses with a weight need, and load the pre-trained encoders."""
        if self.w_uni:
            self.heads.update({m: self.head(m) for m in self.modalities})
        if self.w_con:
            self.adapters = width_adapters(self.dims)[0]
        if self.w_ceb:
            width = max(self.dims.values())
            self.bottleneck.append(nn.Linear(self.num_classes, width, bias=False))
            self.bottleneck.append(nn.Linear(width, sum(self.dims.values()), bias=False))
        if self.pretrained:
            load_encoders(self._encoders, {m: self._trained[m].encoder for m in self.modalities})

    def losses(self, output: Output, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """Compute the CE and the terms that have a weight (step 6)."""
        check_complete(self, "features", output.features)
        losses, features = super().losses(output, batch, ctx), output.features
        for m, head in self.heads.items():
            losses[f"unimodal/{m}"] = self.w_uni * self.loss(head(features[m]), batch, ctx, m)
        order = global_order(batch.index)
        if self.weight:
            losses["game"] = self.weight * self.play(output, batch, order, ctx)
        if self.w_con:
            losses["contrast"] = self.w_con * self.contrast(features, batch, order)
        if self.w_ceb:
            distance = bottleneck_distance(output.logits, features, *self.bottleneck.parameters())
            losses["bottleneck"] = self.w_ceb * ctx.mean(distance, batch.weights(self.modalities))
        return losses

    def play(self, output: Output, batch: Batch, order: GlobalOrder, ctx: Context) -> Tensor:
        """Compute the game's loss over the global batch, and log J of each subset.

        Args:
            output: Output of the step.
            batch: The batch of this step.
            order: The order of the global batch.
            ctx: Seed and step number, from which permutations are drawn.

        Returns:
            0-dim loss without its weight, the same on all ranks.
        """
        label, whole = order.rows(torch.stack([batch.label, batch.has_all(self.modalities).long()], 1)).unbind(1)
        complete = whole > 0 if batch.present else None
        if getattr(self.fusion, "is_additive", False):
            parts = additive_parts(self.fusion, self.fusion.unimodal_logits(output.features))
            values = {m: order.rows(full(u)) for m, u in parts.items()}
            combine: Combine = add_parts
            clean = add_parts(values)
        else:
            values = {m: order.rows(f) for m, f in output.features.items()}
            combine, clean = self.fusion, order.rows(output.logits)
        drawn = draw_permutations(self.modalities, self.draws, len(label), ctx)
        permutations, counted = {}, {}
        for subset in proper_subsets(self.modalities):
            chosen = {m: drawn[m].to(label.device, non_blocking=True) for m in self.modalities if m in subset}
            permutations[subset], counted[subset] = redraw(chosen, label, complete, self.pairs)
        loss, divergence = game_loss(values, clean, permutations, counted, self.game, combine)
        ctx.log(**{f"divergence/{'+'.join(sorted(subset))}": j for subset, j in divergence.items()})
        return loss

    def contrast(self, features: Mapping[str, Tensor], batch: Batch, order: GlobalOrder) -> Tensor:
        """Compute L_con over the global batch.

        Args:
            features: Modality -> (B, D_m).
            batch: The batch of this step; rows of absent modalities are left out.
            order: The order of the global batch.

        Returns:
            0-dim loss, the same on all ranks.
        """
        rows = order.rows(torch.stack([full(self.adapters[m](features[m])) for m in self.modalities], 1))
        valid = order.rows(batch.presence(self.modalities).long().T) > 0
        label = order.rows(batch.label)[:, None].expand_as(valid)
        return supervised_contrast(rows.flatten(0, 1), label.flatten(), self.temperature, valid.flatten())


# ---- the game
def proper_subsets(modalities: Sequence[str]) -> list[frozenset[str]]:
    """Return the non-empty subsets that lack a modality, small ones first."""
    return [subset for subset in coalitions(modalities) if len(subset) < len(modalities)]


def draw_permutations(modalities: Sequence[str], draws: int, samples: int, ctx: Context) -> dict[str, Tensor]:
    """Draw permutations of the global batch; for two modalities one for both.

    Args:
        modalities: Names of the modalities.
        draws: Number of draws S.
        samples: Samples N of the global batch.
        ctx: Seed and step number.

    Returns:
        Modality -> (S, N) int64 on the host: position i receives from position ``[s, i]``.
    """
    generator = torch.Generator().manual_seed(fold_in(ctx.seed, "mcr", ctx.step))

    def draw() -> Tensor:
        return torch.stack([torch.randperm(samples, generator=generator) for _ in range(draws)])

    return dict.fromkeys(modalities, draw()) if len(modalities) == 2 else {m: draw() for m in modalities}


def counted_positions(
    permutations: Mapping[str, Tensor], label: Tensor, complete: Tensor | None, pairs: CountedPairs
) -> Tensor:
    """Find the positions that count in the divergence of a subset of modalities.

    Args:
        permutations: Modality of the subset -> (..., N).
        label: (N,) classes.
        complete: (N,) bool, which samples have all modalities; None: all of them.
        pairs: Which pairs count, judged by the first permutation, see ``MCR``.

    Returns:
        (..., N) bool; none of a permutation that leaves at most one.
    """
    first = next(iter(permutations.values()))
    counted = torch.ones_like(first, dtype=torch.bool)
    if pairs == "other_label":
        counted = label[first] != label
    elif pairs == "other_sample":
        counted = first != torch.arange(len(label), device=label.device)
    if complete is not None:
        counted = counted & complete
        for permutation in permutations.values():
            counted = counted & complete[permutation]
    return counted & (counted.sum(-1, keepdim=True) > 1)


def redraw(
    permutations: Mapping[str, Tensor], label: Tensor, complete: Tensor | None, pairs: CountedPairs
) -> tuple[dict[str, Tensor], Tensor]:
    """Replace the draws that leave at most one position: by their first shift, of 99 at most, that leaves more.

    Args:
        permutations: Modality of the subset -> (S, N).
        label: (N,) classes.
        complete: (N,) bool, which samples have all modalities; None: all of them.
        pairs: Which pairs count.

    Returns:
        Modality -> (S, N) permutations, and the (S, N) bool positions that count; none of a draw without such a shift.
    """
    if pairs == "all" and complete is None:  # what is permuted does not matter
        return dict(permutations), counted_positions(permutations, label, complete, pairs)
    position = torch.arange(len(label), device=label.device)
    shifted = (position + position[:REDRAWS, None]) % len(label)  # (T, N): a shift in each row, the first by 0
    tries = {m: permutation[:, shifted] for m, permutation in permutations.items()}  # (S, T, N)
    counted = counted_positions(tries, label, complete, pairs)
    chosen = counted.any(2).int().argmax(1)[:, None, None].expand(-1, 1, len(label))
    return {m: t.gather(1, chosen)[:, 0] for m, t in tries.items()}, counted.gather(1, chosen)[:, 0]


class Term(NamedTuple):
    """A term of the game's loss.

    Attributes:
        subset: The modalities that are permuted.
        learning: The modalities that have a gradient in the permuted prediction.
        sign: -1: the divergence is to grow; +1: to shrink.
    """

    subset: frozenset[str]
    learning: frozenset[str]
    sign: int


def game_terms(modalities: Sequence[str], game: Game) -> list[Term]:
    """Name the terms of a game, see ``MCR``.

    Args:
        modalities: Names of the modalities.
        game: The game.

    Returns:
        The terms; each subset occurs.
    """
    subsets = proper_subsets(modalities)
    if game == "collaborative":
        return [Term(subset, frozenset(modalities), -1) for subset in subsets]
    return [
        Term(subset, frozenset((m,)), -1 if m in subset else 1)
        for subset in subsets
        for m in modalities
        if game == "greedy" or m in subset
    ]


def game_loss(
    values: Mapping[str, Tensor],
    clean: Tensor,
    permutations: Mapping[frozenset[str], Mapping[str, Tensor]],
    counted: Mapping[frozenset[str], Tensor],
    game: Game,
    combine: Combine,
) -> tuple[Tensor, dict[frozenset[str], Tensor]]:
    """Loss of a game.

    The terms of a subset differ in gradients alone. So where the prediction is a sum of parts, its divergence is
    computed once, and the gradient of each part is multiplied by the signs of the terms in which it learns.

    Args:
        values: Modality -> (N, D_m): parts of the fused logits, or features.
        clean: (N, C) fused logits.
        permutations: Subset -> modality of it -> (S, N).
        counted: Subset -> (S, N) bool, the positions that count.
        game: The game.
        combine: Maps modality -> (K, D_m) to fused logits (K, C); ``add_parts`` for a sum of parts.

    Returns:
        0-dim sum over the terms of sign times divergence, and the divergence of each subset without a graph.
    """
    losses, divergence = [], {}

    def term(subset: frozenset[str], moving: Mapping[str, Tensor], steady: Tensor) -> Tensor:
        moved, mask = combine(permuted(moving, permutations[subset])), counted[subset]
        distance = jensen_shannon(moved, steady.expand(len(mask), *steady.shape).flatten(0, 1))
        j = torch.where(mask.flatten(), distance, 0.0).sum() / mask.sum().clamp_min(1)
        divergence[subset] = j.detach()
        return j

    terms = game_terms(list(values), game)
    if combine is add_parts:
        for subset in proper_subsets(list(values)):
            signs = {t.learning: t.sign for t in terms if t.subset == subset}
            moving = {m: multiply_gradient(x, sum(s for ms, s in signs.items() if m in ms)) for m, x in values.items()}
            total = sum(signs.values())
            j = term(subset, moving, multiply_gradient(clean, total))
            losses.append(j + (total - 1) * j.detach())
    else:
        for subset, learning, sign in terms:
            moving = {m: x if m in learning else x.detach() for m, x in values.items()}
            losses.append(sign * term(subset, moving, clean))
    return torch.stack(losses).sum(), divergence


def multiply_gradient(x: Tensor, factor: int) -> Tensor:
    """Return ``x``, whose gradient in a backward pass is multiplied by a factor."""
    return x.detach() + factor * (x - x.detach()) if factor else x.detach()


def permuted(values: Mapping[str, Tensor], permutations: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Permute some modalities, in S draws.

    Args:
        values: Modality -> (N, D_m).
        permutations: Modality that is permuted -> (S, N).

    Returns:
        Modality -> (S N, D_m).
    """
    draws = len(next(iter(permutations.values())))
    return {
        m: x[permutations[m].flatten()] if m in permutations else x.expand(draws, *x.shape).flatten(0, 1)
        for m, x in values.items()
    }


# ---- the bottleneck
def bottleneck_distance(logits: Tensor, features: Mapping[str, Tensor], first: Tensor, last: Tensor) -> Tensor:
    """Distance of the features from what the fused logits say of them.

    Args:
        logits: (B, C) fused logits, whose gradient is cut.
        features: Modality -> (B, D_m).
        first: W1 (H, C).
        last: W2 (sum of D_m, H).

    Returns:
        (B,) mean square over all coordinates.
    """
    predicted = F.linear(F.linear(logits.detach(), first).relu(), last)
    return (full(predicted) - full(torch.cat(list(features.values()), 1))).square().mean(1)
