"""Methods in stages: what their papers claim, what stands still when, edges."""

from __future__ import annotations

import math
import socket
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import Tensor, nn

from ogm.augmentations import crop, kind_of, view
from ogm.context import Context
from ogm.engine import Engine
from ogm.losses import gather, info_nce, kl, nt_xent
from ogm.parts.ensembles import average_predictions
from ogm.parts.stages import last_stage_length
from ogm.parts.teachers import feature_distance, run_teachers
from ogm.strategies.di_mml import certainty_weighted_mean, dimension_accuracy, effective_dimensions, interaction
from ogm.strategies.g2d import trained_modalities, weak_to_strong
from ogm.strategies.kd_strong_to_weak import align_positions, attention_alignment, pooling_matrix, soft_targets
from ogm.strategies.ssl_crossmodal import avid_loss
from ogm.strategies.ssl_unimodal import vicreg
from tests.small import CLASSES, THREE, TWO, build, digest, flat, strategy, train

Q64 = {"dtype": torch.float64}


def weights(module: nn.Module) -> Tensor:
    return torch.cat([x.detach().double().reshape(-1) for x in (*module.parameters(), *module.buffers())])


def rows(count: int, width: int = 5, seed: int = 0) -> Tensor:
    return torch.randn(count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# ---- contrastive losses
def slow_info_nce(a: Tensor, b: Tensor, t: float, valid: list[bool]) -> list[float]:
    found = []
    for i in range(len(a)):
        both = 0.0
        for x, y in ((a, b), (b, a)):
            scores = [float(F.cosine_similarity(x[i], y[j], 0)) / t for j in range(len(y))]
            both += math.log(sum(math.exp(s) for j, s in enumerate(scores) if valid[j] or j == i)) - scores[i]
        found.append(both / 2)
    return found


def slow_nt_xent(first: Tensor, second: Tensor, t: float, valid: list[bool]) -> list[float]:
    views, n = torch.cat([first, second]), len(first)
    found = [0.0] * n
    for i in range(2 * n):
        pair = (i + n) % (2 * n)
        scores = [float(F.cosine_similarity(views[i], views[j], 0)) / t for j in range(2 * n)]
        others = [s for j, s in enumerate(scores) if j != i and (valid[j % n] or j == pair)]
        found[i % n] += (math.log(sum(map(math.exp, others))) - scores[pair]) / 2
    return found


@pytest.mark.parametrize("valid", [None, [True, False, True, True, False]], ids=["complete", "missing"])
@pytest.mark.parametrize(("fast", "slow"), [(info_nce, slow_info_nce), (nt_xent, slow_nt_xent)])
def test_contrastive_losses_are_their_loops(fast: Any, slow: Any, valid: list[bool] | None) -> None:
    a, b = rows(5), rows(5, seed=1)
    found = fast(a, b, 0.3, None if valid is None else torch.tensor(valid))
    expected = torch.tensor(slow(a, b, 0.3, valid or [True] * 5), dtype=torch.float64)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("loss", [info_nce, nt_xent])
def test_one_sample_has_no_negatives(loss: Any) -> None:
    a = rows(1).requires_grad_()
    value = loss(a, rows(1, seed=1), 0.1)
    value.sum().backward()
    assert abs(float(value.detach())) < 1e-12 and a.grad is not None and a.grad.abs().max() < 1e-12


def test_vicreg_asks_for_spread_and_for_independence() -> None:
    collapsed = vicreg(torch.ones(6, 4), torch.ones(6, 4))
    assert float(collapsed["invariance"]) == 0 and float(collapsed["variance"]) == pytest.approx(0.99)
    copied = rows(64, 1).expand(64, 2)
    assert float(vicreg(copied, copied)["covariance"]) > 0.5
    one = vicreg(rows(1), rows(1, seed=1))
    assert all(torch.isfinite(x) for x in one.values())
    some = torch.tensor([True, True, False, True])
    kept = vicreg(rows(4)[some], rows(4, seed=1)[some])
    for name, value in vicreg(rows(4), rows(4, seed=1), some).items():
        torch.testing.assert_close(value, kept[name])


SHARD = (3, 4)  # of seven rows, unlike on the two ranks


def _contrast(name: str, a: Tensor, b: Tensor, ctx: Context) -> Tensor:
    if name == "vicreg":
        return torch.stack(list(vicreg(a, b).values())).sum()
    return ctx.mean({"info_nce": info_nce, "nt_xent": nt_xent}[name](a, b, 0.3))


def _rank(rank: int, port: int, results: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    mine = slice(0, SHARD[0]) if rank == 0 else slice(SHARD[0], None)
    found = {}
    for name in ("info_nce", "nt_xent", "vicreg"):
        a, b = (x[mine].clone().requires_grad_() for x in (rows(7), rows(7, seed=1)))
        ctx = Context(share=SHARD[rank] * 2 / 7)
        ctx.backward(_contrast(name, a, b, ctx))
        assert a.grad is not None and b.grad is not None
        found[name] = torch.stack([a.grad, b.grad]).div(2).numpy()  # as gradients are averaged over two ranks
    everything, start = gather(rows(7)[mine])
    found["gathered"] = (everything.numpy(), start)
    found["flags"] = gather(torch.tensor([True, False, True][: 2 + rank]))[0].tolist()
    for case in VARIANTS:
        found[str(case)] = _trained(*case).numpy()
    results.put((rank, found))
    dist.destroy_process_group()


VARIANTS: list[tuple[str, dict[str, Any], bool]] = [
    ("ssl_unimodal", {"objective": "vicreg"}, True),
    ("ssl_crossmodal", {"objective": "avid"}, True),
    ("kd_strong_to_weak", {"w_mta": 1.0, "w_hard": 0.5}, False),
    ("cml", {"variant": "miwae"}, True),
    ("opm_ogm", {"noise": True}, False),
]


def _trained(method: str, options: dict[str, Any], missing: bool) -> Tensor:
    return flat(train(build(method, options=options, missing=missing, size=15, **Q64), 2))


def test_two_ranks_contrast_as_one() -> None:
    """Gradients of rows as anchors *and* as the other rank's negatives, on shards of three and four."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn = mp.get_context("spawn")
    results = spawn.Queue()
    processes = [spawn.Process(target=_rank, args=(rank, port, results)) for rank in range(2)]
    for process in processes:
        process.start()
    ranks = dict(results.get(timeout=120) for _ in processes)
    for process in processes:
        process.join()
    for name in ("info_nce", "nt_xent", "vicreg"):
        a, b = rows(7).requires_grad_(), rows(7, seed=1).requires_grad_()
        _contrast(name, a, b, Context()).backward()  # type: ignore[no-untyped-call]
        whole = torch.stack([a.grad, b.grad])  # type: ignore[list-item]
        parts = torch.cat([torch.from_numpy(ranks[rank][name]) for rank in range(2)], 1)
        torch.testing.assert_close(parts, whole, rtol=0, atol=1e-12)
        local = rows(7)[:3].requires_grad_()  # the control: negatives of one's own rank alone
        _contrast(name, local, rows(7, seed=1)[:3], Context(share=6 / 7)).backward()  # type: ignore[no-untyped-call]
        assert (local.grad - whole[0, :3]).abs().max() > 1e-4  # type: ignore[operator]
    for rank, start in ((0, 0), (1, 3)):
        assert ranks[rank]["gathered"][1] == start
        assert torch.equal(torch.from_numpy(ranks[rank]["gathered"][0]), rows(7))
        assert ranks[rank]["flags"] == [True, False, True, False, True]
    for case in VARIANTS:
        first, second = (torch.from_numpy(ranks[rank][str(case)]) for rank in range(2))
        assert torch.equal(first, second) and (first - _trained(*case)).abs().max() < 1e-10


# ---- views
SHAPES = {
    "spectrogram": (1, 32, 32),
    "image": (3, 24, 24),
    "frames": (3, 2, 24, 24),
    "tokens": (12, 7),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_a_view_is_a_function_of_its_place_and_sample(kind: Any) -> None:
    x = torch.randn(6, *SHAPES[kind], generator=torch.Generator().manual_seed(0))
    index = torch.tensor([5, 3, 11, 0, 7, 2])
    assert kind_of(x) == kind
    whole = view(x, kind, index, "first", Context(seed=1, step=4))
    assert whole.shape == x.shape and torch.isfinite(whole).all() and not torch.equal(whole, x)
    assert torch.equal(whole[2:4], view(x[2:4], kind, index[2:4], "first", Context(seed=1, step=4)))
    for other in (Context(seed=2, step=4), Context(seed=1, step=5)):
        assert not torch.equal(whole, view(x, kind, index, "first", other))
    assert not torch.equal(whole, view(x, kind, index, "second", Context(seed=1, step=4)))


def test_all_frames_of_a_clip_are_seen_alike() -> None:
    still = torch.randn(4, 3, 1, 24, 24).expand(-1, -1, 5, -1, -1)
    seen = view(still, "frames", torch.arange(4), "first", Context())
    assert torch.equal(seen, seen[:, :, :1].expand_as(seen))
    assert not torch.allclose(seen[0], seen[1], atol=0.1)


def test_a_crop_is_a_window_of_the_picture() -> None:
    one, zero = torch.ones(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    x = rows(2, 3 * 8 * 12).view(2, 3, 8, 12)
    torch.testing.assert_close(crop(x, one, one, zero, zero), x)
    torch.testing.assert_close(crop(x, one, one, zero, zero, -one), x.flip(3))
    flat_field = torch.ones_like(x) * 3
    torch.testing.assert_close(crop(flat_field, one / 2, one / 3, one, -one), flat_field)
    ramp = torch.arange(12.0, dtype=torch.float64).expand(2, 1, 8, 12)
    left = crop(ramp, one, one / 2, zero, -one)
    assert float(left.min()) >= 0 and float(left.max()) <= 6 and (left[..., 1:] > left[..., :-1]).sum() > 0


def test_a_spectrogram_is_masked_by_little_and_never_silenced() -> None:
    x = torch.randn(200, 1, 40, 40, generator=torch.Generator().manual_seed(0))
    seen = view(x, "spectrogram", torch.arange(200), "first", Context())
    spread = seen.std((1, 2, 3)) / x.std((1, 2, 3))
    assert float(spread.min()) > 0.5 and float(spread.max()) < 1.5
    assert float((seen.mean((1, 2, 3)) - x.mean((1, 2, 3))).abs().max()) < math.log(2) + 0.2


def test_a_tenth_of_the_tokens_is_dropped() -> None:
    seen = view(torch.ones(500, 20, 3), "tokens", torch.arange(500), "first", Context())
    assert torch.equal(seen.amin(2), seen.amax(2))  # a token is there, or it is not
    assert 0.08 < float((seen == 0).double().mean()) < 0.12


# ---- teachers
@pytest.mark.parametrize("method", ["umt", "g2d"])
def test_teachers_do_not_learn(method: str) -> None:
    engine = build(method)
    teachers = engine.strategy._trained
    before = {m: weights(t) for m, t in teachers.items()}
    train(engine, 2)
    for m, teacher in teachers.items():
        assert torch.equal(before[m], weights(teacher)) and not teacher.training
        assert all(p.grad is None for p in teacher.parameters())
        assert all(p is not q for p in teacher.parameters() for q in engine.parameters)


def test_umt_without_weight_is_joint_training_and_with_it_imitates() -> None:
    vanilla, none, umt = build("vanilla"), build("umt", options={"lam": 0.0}), build("umt")
    train(vanilla, 3), train(none, 3), train(umt, 3)
    assert digest(vanilla) == digest(none)
    batch = vanilla.loaders["train"].epoch(0)[0]  # type: ignore[index]
    taught = run_teachers(umt.strategy._trained, TWO, batch)
    far, near = (
        sum(
            float(feature_distance(e.model.encode(batch.inputs)[m], taught[m].features[m]).mean().detach()) for m in TWO
        )
        for e in (vanilla, umt)
    )
    assert near < far / 2


def test_a_teacher_of_another_width_is_refused_in_a_line() -> None:
    one, other = build("umt"), build("umt")
    with pytest.raises(ValueError, match=r"audio: .* wide") as error:
        strategy("umt").attach(
            one.model.encoders,
            dims=dict.fromkeys(TWO, 5),
            num_classes=CLASSES,
            fusion=one.model.fusion,
            trained=other.strategy._trained,
        )
    assert "\n" not in str(error.value)


# ---- G2D
def test_the_weakest_go_first() -> None:
    scores = {m: torch.tensor(s) for m, s in (("a", 0.7), ("b", 0.2), ("c", 0.5))}
    assert weak_to_strong(scores) == ["b", "c", "a"]
    assert weak_to_strong({m: torch.tensor(0.5) for m in "cab"}) == ["c", "a", "b"]  # a tie: their own order
    alone = [trained_modalities(["b", "c", "a"], epoch, [2, 1]) for epoch in range(4)]
    assert alone == [["b"], ["b"], ["c"], ["b", "c", "a"]]


@pytest.mark.parametrize("modalities", [TWO, THREE], ids=len)
def test_a_suppressed_encoder_stands_still(modalities: tuple[str, ...]) -> None:
    engine = build("g2d", modalities=modalities, options={"tau": [1] * (len(modalities) - 1)})
    encoders = engine.model.encoders
    for phase in range(len(modalities)):
        before = {m: weights(e) for m, e in encoders.items()}
        head = weights(engine.model.fusion)
        train(engine)
        moved = {m for m, e in encoders.items() if not torch.equal(before[m], weights(e))}
        order = [modalities[k] for k in engine.strategy.order.tolist()]  # type: ignore[union-attr, operator]
        assert moved == ({order[phase]} if phase < len(modalities) - 1 else set(modalities))
        assert not torch.equal(head, weights(engine.model.fusion))


def test_g2d_without_teachers_and_phases_is_joint_training() -> None:
    plain = build("g2d", options={"alpha": 0.0, "beta": 0.0, "tau": [0]})
    assert digest(train(plain, 2)) == digest(train(build("vanilla"), 2))


# ---- DI-MML
def test_only_what_the_other_lacks_is_pulled() -> None:
    learner, target = rows(4).requires_grad_(), rows(4, seed=1).requires_grad_()
    dims = torch.tensor([True, False, False, True, False])
    pull = interaction(learner, target, dims, 2.0, None)
    scores = (learner * dims) @ (target * dims).T / 2
    torch.testing.assert_close(pull, F.cross_entropy(scores, torch.arange(4), reduction="none"))
    pull.sum().backward()
    assert learner.grad is not None and target.grad is None
    assert torch.equal(learner.grad.abs().sum(0) > 0, dims)
    nothing = interaction(learner, target, torch.zeros(5, dtype=torch.bool), 2.0, None)
    assert not nothing.any()


def test_effective_dimensions_know_the_class() -> None:
    label = torch.arange(200) % 3
    features = rows(200, 6)
    features[:, 1] += 3 * label
    features[:, 4] -= 2 * label
    accuracy = dimension_accuracy(features, label, num_classes=5)  # two classes that nobody belongs to
    assert effective_dimensions(accuracy).nonzero()[:, 0].tolist() == [1, 4]


def test_the_certain_speak_louder() -> None:
    sure, unsure = torch.tensor([[5.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.1, 0.0]])
    here, gone = torch.tensor([True]), torch.tensor([False])
    fused, weight = certainty_weighted_mean([sure, unsure], 0.1, [here, here])
    assert int(fused.argmax()) == 0 and float(weight[0]) > 0.99
    assert torch.equal(certainty_weighted_mean([sure, unsure], 0.1, [gone, here])[0], unsure)
    assert torch.isfinite(certainty_weighted_mean([sure, unsure], 0.1, [gone, gone])[0]).all()


def test_epochs_are_divided_and_never_all_given_away() -> None:
    assert [last_stage_length(e, 20 / 170, None) for e in (0, 1, 2, 4, 20, 100, 170)] == [0, 0, 1, 1, 2, 12, 20]
    assert (
        last_stage_length(20, 0.2, None) == 4
        and last_stage_length(20, 0.2, 7) == 7
        and last_stage_length(5, 0.2, 9) == 4
    )


def test_di_mml_trains_apart_then_the_fusion_alone_from_the_best_epochs() -> None:
    engine = build("di_mml", options={"fuse": 1, "e_c": 1})
    model, plan = engine.model, engine.strategy
    fusion = weights(model.fusion)
    for number in range(3):
        before = {m: weights(e) for m, e in model.encoders.items()}
        train(engine)
        assert torch.equal(fusion, weights(model.fusion))
        assert all(not torch.equal(before[m], weights(e)) for m, e in model.encoders.items())
        assert bool(plan.effective.any()) == (number >= 1)  # type: ignore[union-attr, operator]
    kept = {m: weights(branch[0]) for m, branch in plan.best.items()}  # type: ignore[union-attr, operator]
    heads = weights(plan.heads)  # type: ignore[arg-type]
    train(engine)
    assert not torch.equal(fusion, weights(model.fusion))
    assert all(torch.equal(kept[m], weights(e)) for m, e in model.encoders.items())
    best = weights(nn.ModuleList(branch[1] for branch in plan.best.values()))  # type: ignore[union-attr, operator]
    assert torch.equal(best, weights(plan.heads)) and heads.shape == best.shape  # type: ignore[arg-type]
    assert {len(curve) for curve in engine.curves.values()} == {4}  # entry e of every curve belongs to epoch e
    assert engine.curves["loss/fused"][:3] == [None] * 3 and engine.curves["loss/private/audio"][3] is None


def test_features_of_unlike_width_meet_at_the_widest() -> None:
    encoders = {"audio": nn.Linear(3, 4), "visual": nn.Linear(3, 6)}
    plan = strategy("di_mml").attach(encoders, dims={"audio": 4, "visual": 6}, num_classes=3, fusion=nn.Linear(10, 3))
    wide = plan._wide({"audio": torch.randn(2, 4), "visual": torch.randn(2, 6)})  # type: ignore[operator]
    assert {m: x.shape for m, x in wide.items()} == {"audio": (2, 6), "visual": (2, 6)}
    own = {id(p) for group in plan.param_groups() for p in group["params"]}
    assert {id(p) for p in plan.widen.parameters()} <= own  # type: ignore[union-attr]


@pytest.mark.parametrize("method", ["di_mml", "kd_strong_to_weak"])
def test_encoders_that_exchange_cannot_be_trained_apart(method: str) -> None:
    fusion = nn.Identity()
    fusion.input_kind = "maps"  # type: ignore[assignment]
    engine = build("vanilla")
    with pytest.raises(ValueError, match="lets them exchange"):
        strategy(method).attach(
            engine.model.encoders,
            dims=engine.model.fusion.dims,
            num_classes=CLASSES,
            fusion=fusion,
            trained=build("umt").strategy._trained,
        )


# ---- strong to weak
def test_a_perfect_teacher_at_temperature_one_is_the_label() -> None:
    label = torch.tensor([0, 2, 1])
    student = rows(3, 4)
    perfect = 1e4 * F.one_hot(label, 4).double()
    torch.testing.assert_close(
        soft_targets(perfect, student, 1.0), F.cross_entropy(student, label, reduction="none"), rtol=1e-9, atol=1e-9
    )
    assert not soft_targets(student, student, 4.0).abs().gt(1e-12).any()


@pytest.mark.parametrize("strong", [None, "audio", "visual"])
def test_the_strong_teaches_and_never_moves(strong: str | None) -> None:
    engine = build("kd_strong_to_weak", options={"strong": strong, "fuse": 1})
    plan, model = engine.strategy, engine.model
    right = dict.fromkeys(TWO, 0)
    for batch in engine.loaders["val"].all():
        for m in TWO:
            right[m] += int((plan._trained[m](batch.inputs[m]).logits.argmax(1) == batch.label).sum())
    teacher = strong or max(right, key=lambda m: right[m])
    weak = next(m for m in TWO if m != teacher)
    fusion = weights(model.fusion)
    for _ in range(3):
        student = weights(model.encoders[weak])
        train(engine)
        assert torch.equal(weights(model.encoders[teacher]), weights(plan._trained[teacher].encoder))  # type: ignore[arg-type]
        assert not torch.equal(student, weights(model.encoders[weak])) and torch.equal(fusion, weights(model.fusion))
        for output, batch in engine.predict("val"):  # no fusion yet: the mean of what the heads say
            own = output.unimodal_logits
            torch.testing.assert_close(
                output.logits.softmax(1), (own["audio"].softmax(1) + own["visual"].softmax(1)) / 2
            )
            said = plan._trained[teacher](batch.inputs[teacher]).logits
            torch.testing.assert_close(own[teacher], said)
    student = weights(model.encoders[weak])
    engine.optimizer.param_groups[0]["lr"] = 1e-9  # type: ignore[union-attr]  # where a schedule may have got to
    train(engine)
    assert torch.equal(student, weights(model.encoders[weak])) and not torch.allclose(fusion, weights(model.fusion))
    output, batch = next(iter(engine.predict("val")))
    torch.testing.assert_close(output.logits, model.fusion(output.features))


def test_a_student_comes_to_agree_with_its_teacher() -> None:
    engine = build("kd_strong_to_weak", options={"strong": "audio", "fuse": 0})

    def gap() -> float:
        found = [kl(o.unimodal_logits["audio"], o.unimodal_logits["visual"]) for o, _ in engine.predict("val")]
        return float(torch.cat(found).mean())

    train(engine)
    first = gap()
    assert gap() == first
    train(engine, 3)
    assert gap() < first


def test_attention_maps_meet_in_time_or_on_the_smaller_grid() -> None:
    sound, film = torch.rand(2, 8, 10), torch.rand(2, 4, 4)
    in_time = align_positions((sound, sound.mean(1)), (film, torch.rand(2, 3)))
    assert [x.shape for x in in_time] == [(2, 3), (2, 3)]
    on_grid = align_positions((sound, sound.mean(1)), (film, None))
    assert [x.shape for x in on_grid] == [(2, 16), (2, 16)]
    assert all(torch.allclose(x.norm(dim=1), torch.ones(2)) for x in (*in_time, *on_grid))
    for length, number in ((10, 3), (8, 4), (7, 7), (5, 1)):
        x = torch.rand(2, length)
        torch.testing.assert_close(
            x @ pooling_matrix(length, number, x).T, F.adaptive_avg_pool1d(x[:, None], number)[:, 0]
        )
    same = in_time[0]
    assert (
        not attention_alignment(same, [same]).abs().gt(1e-7).any()
        and (attention_alignment(same, [in_time[1]]) > 0).all()
    )


def test_attention_is_asked_of_encoders_that_have_maps() -> None:
    trained = build("umt").strategy._trained
    plan = strategy("kd_strong_to_weak", w_mta=0.1)
    with pytest.raises(ValueError, match="needs fold and maps"):
        plan.attach({m: nn.Linear(2, 8) for m in TWO}, fusion=nn.Linear(1, 1), trained=trained)
    engine = train(build("kd_strong_to_weak", modalities=THREE, options={"w_mta": 1.0, "kinds": {"audio": "image"}}))
    assert engine.curves["loss/attention/text"][0] is not None or engine.curves["loss/attention/audio"][0] is not None


# ---- pre-training
@pytest.mark.parametrize(
    ("method", "options"),
    [("unimodal_pretrain_finetune", {}), ("ssl_pretrain", {}), ("ssl_pretrain", {"objective": "avid"})],
)
def test_encoders_start_where_the_earlier_runs_ended(method: str, options: dict[str, Any]) -> None:
    engine, fresh = build(method, options=options), build("vanilla")
    trained = engine.strategy._trained
    for m, encoder in engine.model.encoders.items():
        before = trained[m].encoder if m in trained else trained["encoders"].encoders[m]  # type: ignore[union-attr, index]
        assert torch.equal(weights(encoder), weights(before))  # type: ignore[arg-type]
        assert not torch.equal(weights(encoder), weights(fresh.model.encoders[m]))
    assert torch.equal(weights(engine.model.fusion), weights(fresh.model.fusion))


def test_slow_epochs_are_a_smaller_learning_rate_for_encoders() -> None:
    slow = build("ssl_pretrain", options={"warmup": 1}, max_norm=None, **Q64)
    plain = build("vanilla", max_norm=None, **Q64)
    plain.model.load_state_dict(slow.model.state_dict())
    encoders, rest = list(plain.model.encoders.parameters()), list(plain.model.fusion.parameters())
    plain.optimizer = torch.optim.SGD(
        [{"params": encoders, "lr": 0.01}, {"params": rest}], lr=0.1, momentum=0.9, weight_decay=1e-4
    )
    plain.scheduler = None
    train(slow), train(plain)
    torch.testing.assert_close(flat(slow), torch.cat([p.detach().reshape(-1) for p in plain.model.parameters()]))
    done = [flat(train(build("ssl_pretrain", options=o, **Q64), 2)) for o in ({"warmup": 0}, {"slow": 1.0})]
    torch.testing.assert_close(*done)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("ssl_unimodal", {}),
        ("ssl_unimodal", {"objective": "vicreg"}),
        ("ssl_crossmodal", {}),
        ("ssl_crossmodal", {"objective": "avid"}),
    ],
)
def test_without_labels_means_that_labels_do_not_matter(method: str, options: dict[str, Any]) -> None:
    """Not even through the clipping of gradients; and only the heads that watch learn them."""

    def made(shuffled: bool) -> Engine:
        engine = build(method, options=options, max_norm=0.1)
        if shuffled:
            data = engine.loaders["train"].data  # type: ignore[attr-defined]
            data.label = data.label.flip(0)
        return train(engine, 2)

    one, other = made(False), made(True)
    assert torch.equal(weights(one.model), weights(other.model))
    assert not torch.equal(weights(one.strategy), weights(other.strategy))
    start = build(method, options=options)
    learned = TWO if method == "ssl_crossmodal" else ("visual",)
    for m in TWO:
        still = torch.equal(weights(start.model.encoders[m]), weights(one.model.encoders[m]))
        assert still == (m not in learned)


def test_the_bank_keeps_unit_vectors_and_its_first_normalizer() -> None:
    engine = build("ssl_crossmodal", options={"objective": "avid", "negatives": 7})
    plan = engine.strategy
    before = plan.bank.clone()  # type: ignore[union-attr, operator]
    assert not plan.normalizer.any()  # type: ignore[union-attr, operator]
    batch = engine.loaders["train"].epoch(0)[0]  # type: ignore[index]
    plan.step(batch, engine)
    z = plan.normalizer.clone()  # type: ignore[union-attr, operator]
    changed = (plan.bank != before).any(2)  # type: ignore[union-attr, operator]
    for row in changed:
        assert row.nonzero()[:, 0].tolist() == sorted(batch.index.tolist())
    torch.testing.assert_close(plan.bank.norm(dim=2), torch.ones(2, len(changed[0])))  # type: ignore[union-attr, operator]
    train(engine)
    assert torch.equal(plan.normalizer, z) and (z > 0).sum() == 2  # type: ignore[arg-type]


def test_discrimination_rewards_the_right_sample() -> None:
    negative = torch.zeros(1, 4, dtype=torch.float64)
    losses = [float(avid_loss(torch.tensor([s]).double(), negative, torch.tensor(1.0))) for s in (0.0, 1.0, 5.0)]
    assert losses[0] > losses[1] > losses[2]
    naive = -math.log(math.exp(1) / (math.exp(1) + 4)) - 4 * math.log(4 / (1 + 4))
    assert losses[1] == pytest.approx(naive)


# ---- the ensemble's weights
def test_weights_count_for_the_modalities_that_are_there() -> None:
    logits = {m: rows(3, 4, seed=i) for i, m in enumerate(TWO)}
    there = {"audio": torch.tensor([True, True, False]), "visual": torch.tensor([True, False, True])}
    p = {m: z.softmax(1) for m, z in logits.items()}
    found = average_predictions(logits, there, "prob_mean", {"audio": 3.0, "visual": 1.0}).exp()
    torch.testing.assert_close(found[0], 0.75 * p["audio"][0] + 0.25 * p["visual"][0])
    torch.testing.assert_close(found[1], p["audio"][1])
    torch.testing.assert_close(found[2], p["visual"][2])
    nobody = {m: torch.zeros(3, dtype=torch.bool) for m in TWO}
    assert torch.isfinite(average_predictions(logits, nobody, "logit_mean")).all()


@pytest.mark.parametrize(
    ("method", "options", "said"),
    [
        ("umt", {"lam": -1.0}, "lam=-1"),
        ("g2d", {"tau": [1, -1]}, "tau="),
        ("g2d", {"temperature": 0.0}, "temperature=0"),
        ("di_mml", {"certainty": 0.0}, "certainty=0"),
        ("di_mml", {"fuse": -1}, "fuse=-1"),
        ("kd_strong_to_weak", {"w_hard": 2.0}, "w_hard=2"),
        ("ssl_pretrain", {"warmup": -1}, "warmup=-1"),
        ("ssl_unimodal", {"temperature": 0.0}, "temperature=0"),
        ("ssl_crossmodal", {"negatives": 0}, "negatives=0"),
        ("ume", {"weights": {"audio": 0.0}}, "not all 0"),
    ],
)
def test_wrong_options_are_one_line(method: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        strategy(method, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("method", "options", "said"),
    [
        ("g2d", {"tau": [1, 1]}, "1 in all"),
        ("kd_strong_to_weak", {"strong": "smell"}, "there are audio, visual"),
        ("ssl_unimodal", {"modality": "smell"}, "there are audio, visual"),
        ("ume", {"weights": {"audio": 1.0}}, "exactly one weight"),
    ],
)
def test_options_that_do_not_fit_the_data_are_one_line(method: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        build(method, options=options)
