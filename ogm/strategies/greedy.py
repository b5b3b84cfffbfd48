"""Conditional learning speed (greedy): a branch that relies on the others too fast trains without them for a while."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial, reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ogm.context import Context, TrainingContext
from ogm.imbalance import true_class_scores
from ogm.parts.ensembles import counted_modalities
from ogm.parts.gradients import gradients_of
from ogm.parts.heads import xavier_linear
from ogm.strategy import Strategy
from ogm.types import Batch, Output


class FeatureMMTM(nn.Module):
    """One multimodal transfer unit for feature vectors.

    e = relu(S [h_1; ...; h_M] + s), and each feature h_m is multiplied by sigmoid(G_m e + g_m). e has floor(2 sum D_m /
    4) coordinates.

    Args:
        dims: Modality -> feature width D_m.
    """

    def __init__(self, dims: Mapping[str, int]) -> None:
        super().__init__()
        joint = max(1, 2 * sum(dims.values()) // 4)
        self.squeeze = xavier_linear(sum(dims.values()), joint)
        self.gates = nn.ModuleDict({m: nn.Sequential(xavier_linear(joint, d), nn.Sigmoid()) for m, d in dims.items()})

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Gate features, modality -> (B, D_m), by a joint vector of all of them."""
        joint = torch.relu(self.squeeze(torch.cat([features[m] for m in self.gates], 1)))
        return {m: features[m] * gate(joint) for m, gate in self.gates.items()}


class Greedy(Strategy):
    """Balance how fast each modality's branch learns by itself and from the other modalities.

    Each branch m is encoder m, whose channels are gated by a joint vector of all modalities in MMTM units, and a linear
    head with logits u_m (B, C). L = sum_m CE(u_m, y); the prediction is argmax mean_m u_m. The fusion's own head is not
    trained.

    After every regular step:
    1. mu = ||grad||^2 / ||theta||^2 for two parameter sets of each branch: main (encoder and head) and bypass (its gate
       layers and all squeeze layers). Both are summed over all regular steps of the run.
    2. r_m = log10(bypass_m / main_m); d_m = r_m - mean_{k != m} r_k.
    3. From epoch ``warmup`` on, if the largest d_m exceeds ``epsilon``, the next ``window`` steps are re-balancing
       steps: the gates of that branch are replaced by their running means, so that it learns from its own input. A
       regular step follows.

    The running means of the gates and the sums are updated in regular steps only. Evaluation uses the real gates.

    Args:
        epsilon: Threshold of d_m, 0 or more.
        window: Number of re-balancing steps after a trigger, 1 or more.
        warmup: First epoch with re-balancing, from 0. The defaults are the released ones (epoch 2 counted from 1).
        auto_mmtm: With a fusion that has no MMTM units, put one on the encoders' features. Otherwise such a fusion is
            refused.

    Differences:
        - Released code: updates the second branch's running mean with the first branch's gate, and both also during
          evaluation; evaluates in whatever mode training left; loses this state in a checkpoint. Ours: none of these.
        - Released code: two modalities only. For more, the rule above is ours.
        - Ours: a replaced gate layer does not move, but the optimizer's momentum for it decays, because which branch is
          re-balanced is known on the device only.
        - The paper's conditional utilisation rate is not computed.

    References:
        - Paper: Wu et al., ICML 2022.
        - Code: nyukat/greedy_multimodal_learning at a190e03.
    """

    category = "schedule"
    title = "Balancing of conditional learning speeds"
    paper = "Wu et al., ICML 2022"
    prediction = "mean of the gated branches"
    needs_engine = True
    main: Tensor
    bypass: Tensor
    regular_steps: Tensor
    held: Tensor
    held_steps: Tensor
    numbers: Tensor

    def __init__(self, epsilon: float = 0.01, window: int = 5, *, warmup: int = 1, auto_mmtm: bool = True) -> None:
        super().__init__()
        if not (epsilon >= 0 and window >= 1 and warmup >= 0):
            raise ValueError(
                f"epsilon={epsilon}, window={window}, warmup={warmup}: choose epsilon >= 0, window >= 1, warmup >= 0"
            )
        self.epsilon, self.window, self.warmup, self.auto_mmtm = epsilon, window, warmup, auto_mmtm

    def setup(self) -> None:
        """Find or create the MMTM units, and create heads, running means of gates, and sums of speeds."""
        self.heads = nn.ModuleDict({m: self.head(m) for m in self.modalities})
        self._units = [
            u for u in getattr(self._fusion[0], "units", ()) if hasattr(u, "squeeze") and hasattr(u, "gates")
        ]
        if not self._units and not self.auto_mmtm:
            raise ValueError(
                "Greedy replaces the gates between branches, and this fusion has none: use mmtm, or auto_mmtm=true"
            )
        self.unit = None if self._units else FeatureMMTM(self.dims)
        self._units = self._units or [self.unit]
        for name, _, gate in self.gates():
            width = next(gate.parameters()).shape[0]
            self.register_buffer(f"gate_mean_{name}", torch.zeros(width))
        self.register_buffer("regular_steps", torch.tensor(0))
        self.register_buffer("main", torch.zeros(len(self.modalities)))
        self.register_buffer("bypass", torch.zeros(len(self.modalities)))
        self.register_buffer("held", torch.tensor(-1))  # number of the re-balanced modality; -1: regular step
        self.register_buffer("held_steps", torch.tensor(0))
        self.register_buffer("numbers", torch.arange(len(self.modalities)), persistent=False)

    def gates(self) -> list[tuple[str, int, nn.Module]]:
        """List the gates of all units.

        Returns:
            (name, number of the modality, module) of every gate.
        """
        return [
            (f"{u}_{m}", i, unit.gates[m]) for u, unit in enumerate(self._units) for i, m in enumerate(self.modalities)
        ]

    # ---- forward
    def replace_unimodal_logits(self, output: Output) -> Output:
        """Replace unimodal logits by those of the gated branches, and fused ones by their mean."""
        gated = output.features if self.unit is None else self.unit(output.features)
        unimodal_logits = {m: head(gated[m]) for m, head in self.heads.items()}
        return replace(
            output,
            logits=torch.stack(list(unimodal_logits.values())).mean(0),
            unimodal_logits=unimodal_logits,
            aux_logits={},
        )

    def forward(self, model: Any, batch: Batch, drop: Collection[str] = ()) -> Output:
        """Predict with the mean of the branches that a sample has; dropped features are zero."""
        output = model.fuse(model.encode(batch.inputs, batch.present, drop), batch.present, drop)
        kept = {m: torch.zeros_like(f) if m in drop else f for m, f in output.features.items()}
        branches = self.replace_unimodal_logits(replace(output, features=kept))
        logits = branch_mean(branches.unimodal_logits, counted_modalities(self.modalities, batch, drop))
        return replace(branches, logits=logits, features=output.features)

    def losses(self, output: Output, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """Compute the CE of every branch."""
        return {f"unimodal/{m}": self.loss(z, batch, ctx, m) for m, z in output.unimodal_logits.items()}

    def step(self, batch: Batch, engine: TrainingContext) -> Output:
        """Train on one batch, with hooks that record the gates and replace those of a re-balanced branch."""
        self._gate_outputs: dict[str, list[Tensor]] = {name: [] for name, _, _ in self.gates()}
        self._free = (self.held != self.numbers).to(self.main.dtype)  # (M,) 0 for the re-balanced branch, else 1
        hooks = [gate.register_forward_hook(partial(self._replace_gate, name, i)) for name, i, gate in self.gates()]
        try:
            return super().step(batch, engine)
        finally:
            for hook in hooks:
                hook.remove()

    def _replace_gate(self, name: str, number: int, module: nn.Module, args: Any, gate: Tensor) -> Tensor:
        """Forward hook of a gate: record its output (B, D); in re-balancing steps replace it by its running mean."""
        self._gate_outputs[name].append(gate.detach())
        mean, free = self.get_buffer(f"gate_mean_{name}"), self._free[number]
        return torch.lerp(mean.to(gate.dtype).expand_as(gate), gate, free.to(gate.dtype))

    # ---- speeds and turns
    @torch.no_grad()
    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        """Update running means and speeds, and choose the branch of the next step (steps 1 to 3)."""
        rebalancing = self.held >= 0
        self.remember_gates(~rebalancing, ctx)
        parts = [part(m) for part in (self.branch_parameters, self.bypass_parameters) for m in self.modalities]
        torch._foreach_add_([self.main, self.bypass], speeds(parts).masked_fill(rebalancing, 0.0).chunk(2))
        lead = speed_leads(self.main, self.bypass)
        self.log_ratios(true_class_scores(output.unimodal_logits, batch, ctx), ctx)
        ctx.log(rebalancing=rebalancing, **{f"speed_lead/{m}": lead[i] for i, m in enumerate(self.modalities)})
        layers = [(i, p) for _, i, gate in self.gates() for p in gate.parameters()]
        self.modulate([p for _, p in layers], [self._free[i] for i, _ in layers], "update")
        allowed = lead if ctx.epoch >= self.warmup else torch.full_like(lead, -torch.inf)
        rebalanced, steps = next_rebalanced(self.held, self.held_steps, allowed, self.epsilon, self.window)
        torch._foreach_copy_([self.held, self.held_steps], [rebalanced, steps])

    def remember_gates(self, regular: Tensor, ctx: Context) -> None:
        """Update the running means of the gates, if the step is regular.

        Args:
            regular: 0-dim bool.
            ctx: Communication between ranks.
        """
        means = [self.get_buffer(f"gate_mean_{name}") for name in self._gate_outputs]
        parts = [torch.cat(outputs, 1) for outputs in zip(*self._gate_outputs.values(), strict=True)]  # (b, sum of D)
        sums = reduce(torch.add, [part.sum(0, dtype=torch.float64) for part in parts])
        counted = ctx.total(F.pad(sums, (0, 1), value=float(sum(len(part) for part in parts))))
        batch_means = torch.split(counted[:-1] / counted[-1], [len(mean) for mean in means])
        self.regular_steps += regular
        move_means(means, list(batch_means), self.regular_steps / regular)

    def branch_parameters(self, modality: str) -> list[nn.Parameter]:
        """The parameters of a branch: encoder and head."""
        return [*self.parameters_of(modality), *self.heads[modality].parameters()]

    def bypass_parameters(self, modality: str) -> list[nn.Parameter]:
        """The parameters through which a branch learns from the others: its gate layers and the squeeze layers."""
        return [p for unit in self._units for part in (unit.gates[modality], unit.squeeze) for p in part.parameters()]


def branch_mean(logits: Mapping[str, Tensor], present: Tensor) -> Tensor:
    """Mean of the branches' logits over the modalities that each sample has.

    Args:
        logits: Modality -> (B, C).
        present: (M, B) bool, which modalities each sample has; at least one per sample.

    Returns:
        (B, C) mean logits.
    """
    stacked = torch.stack(list(logits.values()))
    weight = present[..., None].to(stacked.dtype)
    return (weight * stacked).sum(0) / weight.sum(0)


def move_means(means: list[Tensor], batch_means: list[Tensor], t: Tensor) -> None:
    """Move means of the first t - 1 batch means to the means of t of them, in place.

    Args:
        means: Tensors of any shape.
        batch_means: Those of batch t, of the same shapes.
        t: 0-dim number of batches including this one; infinite: the means stay as they are.
    """
    way = torch._foreach_sub(batch_means, means)
    torch._foreach_div_(way, t)
    torch._foreach_add_(means, way)


def speeds(sets: Sequence[Sequence[nn.Parameter]]) -> Tensor:
    """Learning speeds of parameter sets.

    Args:
        sets: S sets of parameters; one without a gradient counts with a gradient of 0.

    Returns:
        (S,) ||grad||^2 / ||theta||^2, with the squared norms summed over the set; float64.
    """
    lists = [*(gradients_of(parameters) for parameters in sets), *([p.detach() for p in ps] for ps in sets)]
    norms = torch.stack(torch._foreach_norm([t for several in lists for t in several], 2, dtype=torch.float64))
    joint = torch._foreach_norm(torch.split(norms, [len(several) for several in lists]))
    change, size = torch.stack(joint).square().view(2, -1).unbind()
    return change / size.clamp_min(1e-12)


def speed_leads(main: Tensor, bypass: Tensor) -> Tensor:
    """How much faster each branch learns from the others than by itself, relative to the other branches.

    Args:
        main: (M,) accumulated speeds of the branches themselves.
        bypass: (M,) accumulated speeds of their gates and squeeze layers.

    Returns:
        (M,) d_m = log10(bypass_m / main_m) minus the mean of the others' ratios; -inf for all if a speed is still 0.
    """
    ratio = torch.log10(bypass / main)
    lead = (ratio - ratio.mean()) * (len(ratio) / (len(ratio) - 1))  # r_m minus the mean of the others
    return lead.nan_to_num(nan=-torch.inf, posinf=-torch.inf, neginf=-torch.inf)  # one infinite ratio spoils them all


def next_rebalanced(
    rebalanced: Tensor, steps: Tensor, lead: Tensor, epsilon: float, window: int
) -> tuple[Tensor, Tensor]:
    """Decide which branch is re-balanced in the next step.

    Args:
        rebalanced: 0-dim number of the branch that was re-balanced in this step; -1: regular step.
        steps: 0-dim number of re-balancing steps before this one, since the trigger.
        lead: (M,) d_m.
        epsilon: Threshold of d_m.
        window: Number of re-balancing steps after a trigger.

    Returns:
        The new ``rebalanced`` and ``steps``. After a regular step the branch with the largest lead is re-balanced if
        that exceeds epsilon; after ``window`` re-balancing steps a regular step follows.
    """
    largest, fastest = lead.max(0)
    regular = rebalanced < 0
    steps = (steps + 1).masked_fill(regular, 0)
    continued = rebalanced.masked_fill(steps >= window, -1)
    return torch.where(regular & (largest > epsilon), fastest, continued), steps
