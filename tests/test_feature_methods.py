"""Methods that act on features, logits and schedules: what their papers claim of them, and their edges."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from datasets.core.loader import Loader
from datasets.registry import load
from ogm.context import Context
from ogm.engine import Engine
from ogm.strategies.amco import hidden_classes
from ogm.strategies.cml import confidence_rise
from ogm.strategies.lfm import divergence, scheduled_weight
from ogm.strategies.mbsd import pair_terms
from ogm.strategies.mmcosine import scaled_cosines, smallest_scale
from ogm.strategies.opm import drop_features, drop_rates, dropped_share
from ogm.types import Batch, Output
from tests.conformance import check
from tests.small import SAMPLES, THREE, TWO, build, digest, flat, strategy, train

Q64: dict[str, Any] = {"dtype": torch.float64}
LOGITS = {
    "a": [[2.0, 0.0, -1.0], [0.5, 1.0, 0.0], [1.0, 0.0, 0.5]],
    "v": [[0.2, 0.1, 0.0], [0.0, 0.3, 0.6], [0.4, 0.0, 0.1]],
}
U = {f"u_{m}": u for m, u in LOGITS.items()}
HEAD = {
    "h_a": [[1.0, 2.0], [3.0, -1.0]],
    "h_v": [[0.0, 1.0, 1.0], [2.0, 0.0, -1.0]],
    "W": [[1.0, 0.0, 0.5, 0.0, 1.0], [0.0, 1.0, 0.0, -1.0, 0.5], [-1.0, 1.0, 1.0, 0.5, 0.0]],
    "b": [0.2, -0.2, 0.4],
    "labels": [0, 2],
}
SUM = [[2.2, 0.1, -1.0], [0.5, 1.3, 0.6], [1.4, 0.0, 0.6]]


# Numbers that the specification prints beside its vectors.
@pytest.mark.parametrize(
    ("method", "inputs", "hyper", "expected"),
    [
        ("opm", {**HEAD, "mask_a": [0, 1], "mask_v": [1, 1], "q_a": 0.5, "q_v": 0.0}, {}, {"loss": 3.3090626045}),
        ("mmcosine", HEAD, {"s": 10.0}, {"loss": 5.2245180849}),
        (
            "mbsd",
            {**U, "joint_logits": SUM, "labels": [0, 2, 1]},
            {},
            {"total": 3.7107033991, "weights": [0.4766293334, 0.2504280937, 0.0]},
        ),
        (
            "cml",
            {**U, "bias": [0.3, 0.0, -0.3], "labels": [0, 2, 1], "removal_order": ["v"]},
            {"lam": 0.1},
            {"total": 1.1941156642},
        ),
        (
            "lfm",
            {"epochs": [0], "total_epochs": 200},
            {},
            {"w_cls_fitted": [0.204623704], "heuristic_w_align": [0.6321206]},
        ),
        (
            "amco",
            {"progress": [0, 0.1, 0.5], "num_classes": 10},
            {"eps": 0.3},
            {"pt": [0, 0.5, 1], "hidden": [0, 5, 10]},
        ),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_numbers_of_the_specification(method: str, inputs: Any, hyper: Any, expected: Any) -> None:
    assert check(method, {"inputs": inputs, "hyperparams": hyper, "expected": expected}) == ("passed", "")


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("opm", {"q_base": 1.5}),
        ("opm", {"p_exe": -0.1}),
        ("opm_ogm", {"alpha": -1.0}),
        ("opm_ogm", {"ogm_end": -1}),
        ("mmcosine", {"s": 0.0}),
        ("mbsd", {"w_kl": -1.0}),
        ("cml", {"lam": math.nan}),
        ("lfm", {"held_out": 0}),
        ("amco", {"eps": 0.0}),
    ],
)
def test_options_out_of_range_are_named_in_a_line(method: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))) as error:
        strategy(method, **options)
    assert "\n" not in str(error.value)


# ---- OPM
def test_only_who_is_ahead_is_hidden_and_the_further_the_more() -> None:
    rho = {m: torch.tensor(r) for m, r in {"a": 0.5, "b": 1.0, "c": 1.5, "d": 9.0, "e": torch.nan}.items()}
    q = {m: float(x) for m, x in drop_rates(rho, 0.5, 0.5).items()}
    assert q["a"] == q["b"] == q["e"] == 0 < 0.5 < q["c"] < q["d"] < 0.75


def test_hidden_features_keep_their_mean() -> None:
    """In expectation, over masks, the share of what is hidden and the rescaling cancel if all widths are equal."""
    q, n = {"a": torch.tensor(0.5), "v": torch.tensor(0.0)}, 20000
    features = {m: torch.ones(n, 3) for m in q}
    ctx = Context(seed=3)
    keep = {m: ctx.uniform(torch.arange(n), f"opm/{m}") >= x for m, x in q.items()}
    shown = drop_features(features, keep, dropped_share(q, dict.fromkeys(q, 3)))
    assert float(torch.cat(list(shown.values())).mean()) == pytest.approx(1, abs=0.02)
    assert not torch.equal(*keep.values())


def test_nothing_is_hidden_in_evaluation_or_by_the_coin() -> None:
    idle = train(build("opm", options={"p_exe": 0.0}))
    assert digest(idle) == digest(train(build("vanilla")))
    engine = build("opm", options={"p_exe": 1.0})
    batch = engine.loaders["val"].all()[0]  # type: ignore[index]
    plain = engine.model(batch.inputs)
    assert torch.equal(engine.strategy.forward(engine.model, batch).logits, plain.logits)


def test_a_sample_left_with_nothing_does_not_count() -> None:
    engine = build("opm", options={"q_base": 1.0, "lam": 0.0, "p_exe": 1.0})
    batch = engine.loaders["train"].epoch(0)[0]  # type: ignore[index]
    features = engine.model.encode(batch.inputs)
    with torch.no_grad():  # audio knows the labels, visual nothing
        features["audio"] = 9 * torch.eye(8)[batch.label]
        columns = engine.model.fusion.head.weight.zero_()[:, :8]
        columns.copy_(torch.eye(4, 8))
    batch.present["visual"] = torch.arange(len(batch)) % 2 == 0
    _, left = engine.strategy.on_features(features, batch, engine)
    assert left.weight is not None and torch.equal(left.weight > 0, batch.present["visual"])
    batch.weight = torch.zeros(len(batch))  # no sample at all: a loss of zero, not NaN
    assert float(engine.strategy.loss(engine.model.fuse(features).logits.detach(), batch, engine)) == 0


def test_both_halves_of_opm_ogm_go_by_the_same_ratios() -> None:
    engine = train(build("opm_ogm", options={"alpha": 0.8, "p_exe": 0.0}))
    ogm = train(build("ogm", options={"alpha": 0.8}))
    assert digest(engine) == digest(ogm)  # no feature hidden: OGM
    closed = train(build("opm_ogm", options={"ogm_end": 0, "p_exe": 0.0}), 2)
    assert closed.curves["coefficient/audio"][1:] in ([], [None])  # the second epoch has none
    gentle = train(build("opm_ogm", options={"alpha": 0.8, "p_exe": 0.0, "variant": "tpami"}))
    assert min(gentle.curves["coefficient/audio"]) > min(engine.curves["coefficient/audio"])


def test_with_noise_and_nothing_hidden_opm_ogm_is_ogm_ge() -> None:
    """What the released scripts run as OGM."""
    noisy = train(build("opm_ogm", options={"alpha": 0.8, "p_exe": 0.0, "noise": True}), 2)
    assert digest(noisy) == digest(train(build("ogm_ge", options={"alpha": 0.8}), 2))
    ended = train(build("opm_ogm", options={"ogm_end": 0, "start": 1, "noise": True, "p_exe": 0.0}), 2)
    assert digest(ended) == digest(train(build("vanilla"), 2))  # outside the window there is none


def test_opm_says_where_it_belongs() -> None:
    encoders = {m: nn.Linear(2, 2) for m in TWO}
    with pytest.raises(ValueError, match="pass fusion="):
        strategy("opm").attach(encoders)
    plan = strategy("opm").attach(encoders, fusion=nn.Linear(4, 3), dims=dict.fromkeys(TWO, 2))
    with pytest.raises(ValueError, match=r"call features = strategy\.transform"):
        plan.backward(Output(torch.zeros(2, 3, requires_grad=True)), torch.tensor([0, 1]))


# ---- MMCosine
def test_no_norm_matters() -> None:
    g = torch.Generator().manual_seed(0)
    features = {m: torch.randn(5, d, generator=g) for m, d in (("a", 3), ("v", 4))}
    weight = torch.randn(6, 7, generator=g)
    once = scaled_cosines(features, weight, 10.0)
    scaled = scaled_cosines(
        {"a": 100 * features["a"], "v": features["v"]}, weight * torch.tensor([9.0] * 3 + [1.0] * 4), 10.0
    )
    for m in once:
        torch.testing.assert_close(once[m], scaled[m])
        assert once[m].abs().max() <= 10 + 1e-5


def test_a_row_of_zeros_has_no_cosine_and_no_gradient() -> None:
    features = {"a": torch.zeros(2, 3, requires_grad=True), "v": torch.ones(2, 3, requires_grad=True)}
    weight = torch.cat([torch.zeros(1, 6), torch.eye(6)[:3]]).requires_grad_()
    said = scaled_cosines(features, weight, 10.0)
    assert not said["a"].any() and not said["v"][:, 0].any()
    torch.stack(list(said.values())).square().sum().backward()
    assert not features["a"].grad.any() and not weight.grad[0].any() and torch.isfinite(weight.grad).all()  # type: ignore[union-attr]


def test_a_scale_too_small_for_the_classes_is_warned_of() -> None:
    assert smallest_scale(309, 2) == pytest.approx(5.15, abs=0.01)
    with pytest.warns(UserWarning, match="use s="):
        build("mmcosine", options={"s": 1.0})


def test_mmcosine_is_evaluated_by_its_cosines() -> None:
    engine = train(build("mmcosine"))
    batch = engine.loaders["val"].all()[0]  # type: ignore[index]
    whole, less = (engine.strategy.forward(engine.model, batch, drop) for drop in ((), ("audio",)))
    torch.testing.assert_close(whole.logits, sum(whole.unimodal_logits.values()))
    assert torch.equal(less.logits, less.unimodal_logits["visual"])
    assert not engine.model.fusion.head.bias.any()  # its zeros have no gradient to move them


# ---- MBSD
def test_the_weaker_learns_from_the_stronger_and_never_the_other_way() -> None:
    a, v = (torch.tensor(LOGITS[m], requires_grad=True) for m in "av")
    label = torch.tensor([0, 2, 1])
    lesson = pair_terms(a, v, label)
    (lesson.weight * (lesson.kl + lesson.rs)).sum().backward()
    moved = [[bool(row.any()) for row in z.grad] for z in (a, v)]  # type: ignore[union-attr]
    assert moved == [[False, True, False], [True, False, False]]  # the third: both are wrong
    assert not lesson.weight.requires_grad


def test_a_tie_teaches_nothing() -> None:
    same = torch.tensor([[3.0, 0.0]], requires_grad=True)
    lesson = pair_terms(same, same.detach().clone(), torch.tensor([0]))
    assert all(x.detach().item() == 0 for x in lesson)


def test_the_literal_variant_trains() -> None:
    engine = train(build("mbsd", modalities=THREE, options={"variant": "bb_literal"}))
    assert torch.isfinite(flat(engine)).all() and digest(engine) != digest(train(build("mbsd", modalities=THREE)))


# ---- CML
def fell(engine: Engine) -> float:
    """Mean, over validation samples, of how much confidence rises where a modality is taken away."""
    confidence_rise = []
    for output, batch in engine.predict("val"):
        for m in engine.strategy.modalities:
            less = engine.strategy.forward(engine.model, batch, (m,)).logits
            confidence_rise.append((less.softmax(1).amax(1) - output.logits.softmax(1).amax(1)).clamp_min(0))
    return float(torch.cat(confidence_rise).detach().mean())


def test_calibration_lowers_the_rise_of_confidence() -> None:
    free, tied = (train(build("cml", options={"lam": lam}), 4) for lam in (0.0, 1.0))
    assert fell(tied) < fell(free)


def test_every_modality_is_taken_away_now_and_then() -> None:
    orders = {tuple(sorted(THREE, key=lambda m: Context(step=s).chance(f"cml/{m}"))) for s in range(60)}
    assert orders == set(itertools.permutations(THREE))


def test_where_both_are_wrong_trick_2_gives_the_confidence_before_no_gradient() -> None:
    label = torch.tensor([2, 2, 0, 1])  # both wrong; before right; both right; only after right
    z = {"before": [[2.0, 1, 0], [0, 0, 1], [1.0, 0, 0], [3.0, 0, 0]], "after": [[4.0, 1, 0], [5.0, 0, 0], [3.0, 0, 0],
                                                                               [0, 3.0, 0]]}  # fmt: skip
    moved, values = {}, {}
    for trick in (False, True):
        before, after = (torch.tensor(x, requires_grad=True) for x in z.values())
        values[trick] = confidence_rise(before, after, label, trick_2=trick)
        values[trick].clamp_min(0).sum().backward()
        moved[trick] = [[bool(row.any()) for row in x.grad] for x in (before, after)]  # type: ignore[union-attr]
    assert torch.equal(values[False], values[True]) and (values[True][:3] > 0).all() and values[True][3] == 0
    assert moved[False] == [[True, True, True, False]] * 2
    assert moved[True] == [[False, True, True, False], [True, True, True, False]]


@torch.no_grad()
def test_the_official_order_is_drawn_for_each_sample() -> None:
    """The penalty and the losses are those of each sample's own order, computed here one sample at a time."""
    engine = build("cml", modalities=THREE, options={"variant": "miwae", "lam": 0.3}, dtype=torch.float64)
    batch = engine.loaders["train"].epoch(0)[0]  # type: ignore[index]
    output = engine.strategy.forward(engine.model, batch)
    losses = engine.strategy.losses(output, batch, engine)
    draws = torch.stack([engine.uniform(batch.index, f"cml/{m}") for m in THREE], 1)
    reduced, penalty = 0.0, 0.0
    orders = [[THREE[j] for j in row.argsort().tolist()] for row in draws]
    for i, order in enumerate(orders):
        alone = {m: f[i : i + 1] for m, f in output.features.items()}
        label, before = batch.label[i : i + 1], output.logits[i : i + 1]
        for k in (1, 2):
            after = engine.model.fusion(alone, drop=order[:k])
            reduced += float(torch.nn.functional.cross_entropy(after, label)) / len(batch) / 3
            penalty += 0.3 * float(confidence_rise(before, after, label).clamp_min(0))
            before = after
    assert len(set(map(tuple, orders))) > 2  # of one step
    assert float(losses["reduced"]) == pytest.approx(reduced) and float(losses["penalty"]) == pytest.approx(penalty)


# ---- LFM
def test_alignment_gives_way_to_fitting() -> None:
    for schedule in ("fitted", "heuristic"):
        w = [scheduled_weight(schedule, e, 20) for e in range(20)]
        assert w[:17] == sorted(w[:17]) and 0 < w[0] < 0.5 < min(w[-4:]) < 1  # the polynomial sinks a little at its end
    assert scheduled_weight("fitted", 0, 1) == scheduled_weight("fitted", 0, 200)
    assert scheduled_weight("fitted", 19, 20) == scheduled_weight("fitted", 199, 200)
    with pytest.raises(ValueError, match="pass epochs="):
        scheduled_weight("fitted", 0, 0)


@pytest.mark.parametrize("align", ["mixture_to_branches", "true_js"])
def test_divergence_is_a_symmetric_distance_and_finite(align: Any) -> None:
    a, v = torch.tensor(LOGITS["a"]), torch.tensor(LOGITS["v"])
    torch.testing.assert_close(divergence(a, v, align), divergence(v, a, align))
    assert (divergence(a, v, align) > 0).all() and divergence(a, a + 3, align).abs().max() < 1e-6
    far = torch.tensor([[1000.0, 0.0]], requires_grad=True)
    gap = divergence(far, -far.detach(), align).sum()
    gap.backward()
    assert torch.isfinite(gap) and torch.isfinite(far.grad).all()  # type: ignore[arg-type]


def learner(**options: Any) -> Engine:
    return build("lfm", options={"schedule": "learned", "held_out": 12, "lr_weight": 0.1, **options}, **Q64)


def test_the_learned_weight_follows_the_derivative_it_claims() -> None:
    """Against a naive reference: the held-out loss after one step, at two weights, a difference quotient apart."""
    engine = learner()
    plan, loader = engine.strategy, engine.loaders["train"]
    first = loader.epoch(0, plan.epoch_sampling(SAMPLES, engine))[0]  # type: ignore[index]
    held = loader.pick(plan.sample_order(SAMPLES, engine)[:12], 12)  # type: ignore[attr-defined, operator]
    start = {k: x.clone() for k, x in engine.model.state_dict().items()}

    def after_a_step(w_cls: float) -> Tensor:
        engine.model.load_state_dict(start)
        parts = plan.loss_terms(first, engine)  # type: ignore[operator]
        params = list(engine.model.parameters())
        grads = torch.autograd.grad(w_cls * parts["cls"] + (1 - w_cls) * parts["align"], params)
        with torch.no_grad():
            for p, g in zip(params, grads, strict=True):
                p -= 0.1 * g
            return plan.loss_terms(held, engine)["cls"]  # type: ignore[operator, no-any-return]

    quotient = -float(after_a_step(0.05 + 1e-5) - after_a_step(0.05 - 1e-5)) / 2e-5
    engine.model.load_state_dict(start)
    before = digest(engine)
    plan.on_epoch_start(engine)
    assert digest(engine) == before  # the probe leaves no trace
    assert float(plan.w_cls) - 0.05 == pytest.approx(0.1 * quotient, rel=1e-4)  # type: ignore[arg-type]


def test_held_out_samples_are_never_trained_on() -> None:
    engine = learner()
    aside = set(engine.strategy.sample_order(SAMPLES, engine)[:12].tolist())  # type: ignore[operator]
    seen: set[int] = set()
    step = engine.strategy.step

    def watched(batch: Batch, at: Engine) -> Output:
        seen.update(batch.index.tolist())
        return step(batch, at)

    engine.strategy.step = watched  # type: ignore[method-assign]
    train(engine, 2)
    assert len(aside) == 12 and seen == set(range(SAMPLES)) - aside


@pytest.mark.parametrize("schedule", ["learned", "learned_surrogate"])
def test_a_learned_weight_is_resumed(schedule: str, tmp_path: Path) -> None:
    whole, half, resumed = (learner(schedule=schedule) for _ in range(3))
    for engine in (whole, half):
        engine.strategy.w_cls.fill_(0.5)  # away from its bounds
    train(whole, 4), train(half, 2)
    torch.save(half.state_dict(), tmp_path / "checkpoint.pt")
    resumed.load_state_dict(torch.load(tmp_path / "checkpoint.pt", weights_only=True))
    train(resumed, 2)
    assert digest(resumed) == digest(whole) and resumed.curves == whole.curves
    assert len(set(whole.curves["w_cls"])) == 4


def test_a_held_out_set_fills_whole_batches_of_the_real_loader() -> None:
    data = load("synthav", {"num_train": 96, "num_val": 16, "num_test": 16})
    engine = learner()
    plan = engine.strategy
    real = Loader(data.train, batch_size=32)
    aside = torch.arange(12).repeat(32 // math.gcd(32, 12))
    batches = list(real.epoch(0, plan.all_modalities(aside)))  # type: ignore[operator]
    counts = torch.cat([b.index for b in batches]).bincount()
    assert all(len(b) == 32 for b in batches) and counts.unique().numel() == 1 and len(counts) == 12


def test_a_weight_is_not_learned_without_the_engine() -> None:
    plan, output = learner().strategy, Output(torch.zeros(2, 4, requires_grad=True))
    with pytest.raises(ValueError, match=r"Engine|engine"):
        plan.backward(output, torch.tensor([0, 1]))


def test_a_training_set_smaller_than_what_is_set_aside() -> None:
    with pytest.raises(ValueError, match="held_out=64 leaves nothing to train on: the training set has 60"):
        build("lfm", options={"schedule": "learned"})


@pytest.mark.parametrize("missing", [False, True], ids=["complete", "missing"])
def test_alignment_by_contrast_brings_pairs_together(missing: bool) -> None:
    engine = build("lfm", modalities=THREE, missing=missing, options={"align": "infonce"})
    train(engine, 4)
    contrast = engine.curves["loss/align"]
    assert torch.isfinite(flat(engine)).all() and engine.strategy.needs_whole_batch
    weight = [2 * (1 - w) for w in engine.curves["w_cls"]]  # type: ignore[operator]
    assert contrast[-1] / weight[-1] < contrast[0] / weight[0]  # type: ignore[operator]
    with pytest.raises(ValueError, match="pass dims="):
        strategy("lfm", align="infonce").attach({m: nn.Linear(2, 2) for m in TWO})
    assert not strategy("lfm").needs_whole_batch


# ---- AMCo
def test_the_mask_grows_to_everything_and_stays() -> None:
    n = [hidden_classes(p / 100, 0.3, 8) for p in range(101)]
    assert n[0] == 0 and n == sorted(n) and set(n[30:]) == {8}


def test_who_is_leaned_on_is_masked_in_the_next_step() -> None:
    engine = build("amco")
    plan = engine.strategy
    own = {m: torch.zeros(3, 4) for m in TWO}
    own["audio"] = 5 * torch.eye(4)[:3]
    output, batch = Output(own["audio"], own), Batch({}, torch.arange(3), torch.arange(3))
    end = Context(epoch=3, epochs=4)
    assert torch.equal(plan.masked_logits(output, end)["audio"], own["audio"])  # type: ignore[operator]
    plan.on_gradients(output, batch, end)
    assert plan.dependent.tolist() == [True, False]
    seen = plan.masked_logits(output, end)  # type: ignore[operator]
    assert not seen["audio"].any() and torch.equal(seen["visual"], own["visual"])
    losses = plan.losses(plan.replace_unimodal_logits(output), batch, end)
    assert float(losses["unimodal/audio"]) == pytest.approx(math.log(4))
    start = Context(epochs=4)
    assert torch.equal(plan.masked_logits(output, start)["audio"], own["audio"])  # type: ignore[operator]


def test_evaluation_is_unmasked_and_through_the_trained_layer() -> None:
    engine = train(build("amco"), 4)
    plan, batch = engine.strategy, engine.loaders["val"].all()[0]  # type: ignore[index]
    plan.dependent.fill_(True)
    said = engine.strategy.forward(engine.model, batch)
    torch.testing.assert_close(said.logits, plan.linear_star(sum(said.unimodal_logits.values())))
    assert not torch.equal(plan.linear_star.weight, torch.eye(4))  # type: ignore[arg-type]
    alone = engine.strategy.forward(engine.model, batch, ("audio",))
    torch.testing.assert_close(alone.logits, plan.linear_star(said.unimodal_logits["visual"]))


@pytest.mark.parametrize("method", ["opm", "opm_ogm", "mmcosine", "mbsd", "cml", "lfm", "amco"])
def test_a_batch_of_one(method: str) -> None:
    engine = build(method, size=1)
    for batch in engine.loaders["train"].epoch(0)[:5]:  # type: ignore[index]
        engine.logs = {}
        engine.strategy.step(batch, engine)
    assert torch.isfinite(flat(engine)).all()
