"""Conditional learning speed: a branch that learns too fast from the others hears nothing new of them for a while."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ogm.context import Context
from ogm.engine import Engine
from ogm.scores import discrepancy_ratios, true_class_scores
from ogm.strategies.mla import votes, xavier
from ogm.strategy import Strategy
from ogm.types import Batch, Output


class MMTM(nn.Module):
    """One unit for features (B, D_m): e = relu(S [h_1; ...; h_M] + s), and h_m times sigmoid(G_m e + g_m).

    The joint vector is floor(2 sum D_m / 4) wide.
    """

    def __init__(self, dims: Mapping[str, int]) -> None:
        super().__init__()
        joint = max(1, 2 * sum(dims.values()) // 4)
        self.squeeze = xavier(sum(dims.values()), joint)
        self.gates = nn.ModuleDict({m: nn.Sequential(xavier(joint, d), nn.Sigmoid()) for m, d in dims.items()})

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        joint = torch.relu(self.squeeze(torch.cat([features[m] for m in self.gates], 1)))
        return {m: features[m] * gate(joint) for m, gate in self.gates.items()}


class Greedy(Strategy):
    """Wu et al., ICML 2022 (spec methods_gradient.md, 3.8): L = sum_m CE(u_m), prediction mean_m u_m.

    u_m is a head of this method's on branch m, whose channels are gated by what all modalities emit, in MMTM units:
    those of the fusions ``mmtm`` and ``mmtm_concat``; with any other fusion, one unit of this method's on the encoders'
    features (``auto_mmtm``). The fusion's own head stands by, untrained.

    A branch's speed is the sum over regular steps of ||grad||^2 / ||theta||^2: ``main`` of its encoder and head,
    ``bypass`` of its gate layers and the squeeze layers. With r_m = log10(bypass_m / main_m), d_m = r_m - mean of the
    others' r: after a regular step, from epoch ``warmup`` on, if the largest d exceeds ``epsilon``, that branch's gates
    are held at their running means in the next ``window`` steps, so that it learns from its own input; then a regular
    step follows. Evaluation is always regular. Gates' running means, of all samples, and speeds grow in regular steps.

    Where we leave the released code: it feeds the second branch's running mean from the first branch's gate, goes on
    with it in evaluation, evaluates in whatever mode training left, and forgets all of this in a checkpoint. For more
    than two modalities it has no rule; ours is above. A held gate layer stands still, but the optimizer's momentum for
    it fades: whose turn it is stays on the device. The paper's conditional utilisation rate is not measured.
    """

    category = "schedule"
    paper = "Wu et al., ICML 2022"
    needs_engine = True
    main: Tensor
    bypass: Tensor
    regular_steps: Tensor
    held: Tensor
    held_steps: Tensor

    def __init__(self, epsilon: float = 0.01, window: int = 5, *, warmup: int = 1, auto_mmtm: bool = True) -> None:
        super().__init__()
        if not (epsilon >= 0 and window >= 1 and warmup >= 0):
            raise ValueError(
                f"epsilon={epsilon}, window={window}, warmup={warmup}: needs epsilon >= 0, window >= 1, warmup >= 0"
            )
        self.epsilon, self.window, self.warmup, self.auto_mmtm = epsilon, window, warmup, auto_mmtm

    def setup(self) -> None:
        self.heads = nn.ModuleDict({m: self.head(m) for m in self.modalities})
        self._units = [
            u for u in getattr(self._fusion[0], "units", ()) if hasattr(u, "squeeze") and hasattr(u, "gates")
        ]
        if not self._units and not self.auto_mmtm:
            raise ValueError(
                "Greedy holds the gates between branches, and this fusion has none: use mmtm, or auto_mmtm=true"
            )
        self.unit = None if self._units else MMTM(self.dims)
        self._units = self._units or [self.unit]
        for name, _, gate in self.gates():
            width = next(gate.parameters()).shape[0]
            self.register_buffer(f"gate_mean_{name}", torch.zeros(width))
        self.register_buffer("regular_steps", torch.tensor(0))
        self.register_buffer("main", torch.zeros(len(self.modalities)))
        self.register_buffer("bypass", torch.zeros(len(self.modalities)))
        self.register_buffer("held", torch.tensor(-1))  # number of the modality whose gates are held; -1: regular
        self.register_buffer("held_steps", torch.tensor(0))

    def gates(self) -> list[tuple[str, int, nn.Module]]:
        """(name, number of its modality, module) of every gate of every unit."""
        return [
            (f"{u}_{m}", i, unit.gates[m]) for u, unit in enumerate(self._units) for i, m in enumerate(self.modalities)
        ]

    # ---- forward
    def read(self, output: Output) -> Output:
        gated = output.features if self.unit is None else self.unit(output.features)
        own = {m: head(gated[m]) for m, head in self.heads.items()}
        return replace(output, logits=torch.stack(list(own.values())).mean(0), unimodal_logits=own, aux_logits={})

    def forward(self, model: Any, batch: Batch, drop: Collection[str] = ()) -> Output:
        output = model.fuse(model.encode(batch.inputs, batch.present, drop), batch.present, drop)
        kept = {m: torch.zeros_like(f) if m in drop else f for m, f in output.features.items()}
        said = self.read(replace(output, features=kept))
        logits = branch_mean(said.unimodal_logits, votes(self.modalities, batch, drop))
        return replace(said, logits=logits, features=output.features)

    def losses(self, output: Output, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        return {f"unimodal/{m}": self.loss(z, batch, ctx, m) for m, z in output.unimodal_logits.items()}

    def step(self, batch: Batch, engine: Engine) -> Output:
        self._seen: dict[str, list[Tensor]] = {name: [] for name, _, _ in self.gates()}
        hooks = [gate.register_forward_hook(partial(self.hear, name, i)) for name, i, gate in self.gates()]
        try:
            return super().step(batch, engine)
        finally:
            for hook in hooks:
                hook.remove()

    def hear(self, name: str, number: int, module: nn.Module, args: Any, gate: Tensor) -> Tensor:
        """A gate (B, D) as the branch gets it in training: the running mean, while it is held."""
        self._seen[name].append(gate.detach())
        return torch.where(self.held == number, self.get_buffer(f"gate_mean_{name}").to(gate.dtype), gate)

    # ---- speeds and turns
    @torch.no_grad()
    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        regular = self.held < 0
        self.remember_gates(regular, ctx)
        self.main += torch.where(regular, torch.stack([speed(self.main_of(m)) for m in self.modalities]), 0.0)
        self.bypass += torch.where(regular, torch.stack([speed(self.bypass_of(m)) for m in self.modalities]), 0.0)
        lead = leads(self.main, self.bypass)
        rho = discrepancy_ratios(true_class_scores(output.unimodal_logits, batch, ctx))
        ctx.log(rebalancing=(~regular).float(), **{f"discrepancy_ratio/{m}": r for m, r in rho.items()})
        ctx.log(**{f"speed_lead/{m}": lead[i] for i, m in enumerate(self.modalities)})
        for _, i, gate in self.gates():
            for p in gate.parameters():
                self.modulate(p, torch.where(self.held == i, 0.0, 1.0), "update")
        decided = lead if ctx.epoch >= self.warmup else torch.full_like(lead, -torch.inf)
        held, held_steps = turn(self.held, self.held_steps, decided, self.epsilon, self.window)
        self.held.copy_(held), self.held_steps.copy_(held_steps)

    def remember_gates(self, regular: Tensor, ctx: Context) -> None:
        rows = {name: torch.cat(parts).double() for name, parts in self._seen.items()}
        widths, samples = [x.shape[1] for x in rows.values()], len(next(iter(rows.values())))
        count = torch.full((1,), samples, device=regular.device)
        *sums, count = torch.split(ctx.total(torch.cat([*(x.sum(0) for x in rows.values()), count])), [*widths, 1])
        for name, found in zip(rows, sums, strict=True):
            mean = self.get_buffer(f"gate_mean_{name}")
            mean.copy_(torch.where(regular, running_mean(mean, self.regular_steps, found / count), mean))
        self.regular_steps += regular

    def main_of(self, modality: str) -> list[nn.Parameter]:
        return [*self.parameters_of(modality), *self.heads[modality].parameters()]

    def bypass_of(self, modality: str) -> list[nn.Parameter]:
        return [p for unit in self._units for part in (unit.gates[modality], unit.squeeze) for p in part.parameters()]


def branch_mean(logits: Mapping[str, Tensor], there: Tensor) -> Tensor:
    """(B, C): the mean of the branches' logits (B, C), over those that are ``there`` (M, B)."""
    said = torch.stack(list(logits.values()))
    weight = there[..., None].to(said.dtype)
    return (weight * said).sum(0) / weight.sum(0)


def running_mean(mean: Tensor, steps: Tensor | int, batch_mean: Tensor) -> Tensor:
    """The mean of ``steps`` batch means, with one more taken in."""
    return (mean * steps + batch_mean) / (steps + 1)


def speed(parameters: Iterable[nn.Parameter]) -> Tensor:
    """0-dim mu = ||grad||^2 / ||theta||^2 of parameters taken together; one without a gradient has a gradient of 0."""
    some = list(parameters)
    moved = [p.grad.square().sum() for p in some if p.grad is not None]
    size = torch.stack([p.detach().square().sum() for p in some]).sum()
    return torch.stack(moved).sum() / size.clamp_min(1e-12) if moved else torch.zeros_like(size)


def leads(main: Tensor, bypass: Tensor) -> Tensor:
    """(M,) d_m from accumulated speeds (M,): log10(bypass / main) over the others' mean; -inf where one is still 0."""
    ratio = torch.log10(bypass.clamp_min(1e-30) / main.clamp_min(1e-30))
    others = (ratio.sum() - ratio) / (len(ratio) - 1)
    return torch.where((main > 0).all() & (bypass > 0).all(), ratio - others, -torch.inf)


def turn(held: Tensor, steps: Tensor, lead: Tensor, epsilon: float, window: int) -> tuple[Tensor, Tensor]:
    """Whose gates the next step holds (-1: nobody's), and for how many steps they have been, after a step.

    ``held`` and ``steps`` are 0-dim, of the step just done. After a regular one the modality with the largest ``lead``
    (M,) is held, if that exceeds ``epsilon``; who is held is let go after ``window`` steps.
    """
    most, which = lead.max(0)
    steps = torch.where(held < 0, 0, steps + 1)
    kept = torch.where(steps >= window, -1, held)
    held = torch.where(held < 0, torch.where(most > epsilon, which, -1), kept)
    return held, steps
