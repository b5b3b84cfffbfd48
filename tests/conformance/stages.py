"""Methods in stages: teachers, distillation, pre-training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ogm.context import Context
from ogm.imbalance import true_class_scores
from ogm.losses import info_nce, kl, nt_xent, one_way
from ogm.parts.teachers import feature_distance
from ogm.strategies.di_mml import certainty_weighted_mean, dimension_accuracy, effective_dimensions, interaction
from ogm.strategies.g2d import trained_modalities, weak_to_strong
from ogm.strategies.kd_strong_to_weak import attention_alignment, energy, soft_targets
from ogm.strategies.ssl_crossmodal import avid_loss
from ogm.strategies.ssl_unimodal import vicreg
from ogm.strategies.vanilla import Vanilla
from ogm.types import Output
from tests.conformance.common import Checker, Unsupported, Vector, batch, tensor


def named(inputs: Mapping[str, Any], prefix: str) -> dict[str, Tensor]:
    """What is called prefix + modality, by modality: ``student_a``, ``student_v`` -> a, v."""
    return {name.removeprefix(prefix): tensor(x) for name, x in inputs.items() if name.startswith(prefix)}


def cross_entropy(vector: Vector, logits: Any) -> Tensor:
    return Vanilla().losses(Output(tensor(logits)), batch(vector["inputs"]["labels"]), Context())["fused"]


def umt(vector: Vector) -> dict[str, Any]:
    inputs = vector["inputs"]
    student, teacher = named(inputs, "student_"), named(inputs, "teacher_")
    gap = {f"mse_{m}": feature_distance(student[m], teacher[m]).mean() for m in student}
    ce = cross_entropy(vector, inputs["joint_logits"])
    total = ce + vector.get("hyperparams", {}).get("lam", 10.0) * torch.stack(list(gap.values())).sum()
    return {"ce_joint": ce, **gap, "total": total}


def g2d(vector: Vector) -> dict[str, Any]:
    inputs, options = vector["inputs"], vector.get("hyperparams", {})
    logits = named(inputs, "teacher_logits_")
    found: dict[str, Any] = {}
    if logits:
        scores = true_class_scores(logits, batch(inputs["labels"]), Context())
        order = weak_to_strong(scores)
        found |= {f"rho_{m}": s / len(inputs["labels"]) for m, s in scores.items()}
        found |= {"order_weak_to_strong": order}
        if "epochs" in inputs:
            tau = options["tau"] if isinstance(options["tau"], list) else [options["tau"]]
            found["active"] = [trained_modalities(order, e, tau) for e in inputs["epochs"]]
    if "joint_logits" in inputs:
        joint, t = tensor(inputs["joint_logits"]), options.get("T", 1.0)
        student = named(inputs, "student_")
        teacher = {m: x for m, x in named(inputs, "teacher_").items() if m in student}
        if set(logits) != set(student) or set(teacher) != set(student):
            raise Unsupported("not a student and a teacher with logits for each modality")
        ce = cross_entropy(vector, inputs["joint_logits"])
        mse = {m: feature_distance(student[m], teacher[m]).mean() for m in student}
        divergences = {m: kl(z / t, joint / t).mean() for m, z in logits.items()}
        total = options.get("w_ce", 1.0) * ce
        for m in student:
            total = total + options.get("alpha", 1.0) * mse[m] + options.get("beta", 1.0) * t**2 * divergences[m]
        found |= {"ce": ce, "ce_joint": ce, "total": total, "loss": total}
        found |= {f"mse_{m}": x for m, x in mse.items()} | {f"kl_{m}": x for m, x in divergences.items()}
        found |= {"mse": sum(mse.values()), "kl": sum(divergences.values())}
    return found


def di_mml(vector: Vector) -> dict[str, Any]:
    inputs, options = vector["inputs"], vector.get("hyperparams", {})
    if "features" in inputs:
        features, label = tensor(inputs["features"]), torch.tensor(inputs["labels"])
        classes = int(label.max()) + 1
        accuracy = dimension_accuracy(features, label, classes)
        chosen = effective_dimensions(accuracy).nonzero()[:, 0]
        centroids = torch.stack([features[label == c].mean(0) for c in range(classes)])
        return {
            "centroids": centroids,
            "per_dim_accuracy": accuracy,
            "mean_accuracy": accuracy.mean(),
            "effective_dims": chosen,
        }
    if "dims_a_only" in inputs:
        a, v = (tensor(inputs[m]).requires_grad_() for m in "av")
        masks = {m: torch.zeros(a.shape[1], dtype=torch.bool) for m in "av"}
        for m, mask in masks.items():
            mask[inputs[f"dims_{m}_only"]] = True
        v_to_a = interaction(v, a, masks["a"], options["temperature"], None).mean()
        a_to_v = interaction(a, v, masks["v"], options["temperature"], None).mean()
        grads = torch.autograd.grad(v_to_a + a_to_v, [a, v], allow_unused=True)
        grad_a, grad_v = (torch.zeros_like(x) if g is None else g for x, g in zip((a, v), grads, strict=True))
        return {
            "loss_v_toward_a": v_to_a.detach(),
            "loss_a_toward_v": a_to_v.detach(),
            "total": (v_to_a + a_to_v).detach(),
            "grad_a": grad_a,
            "grad_v": grad_v,
        }
    logits = [tensor(x) for name, x in inputs.items() if "logits" in name]
    if len(logits) < 2:
        raise Unsupported("neither features, nor dimensions, nor logits of several heads")
    t = options.get("T2", options.get("temperature", 1.0))
    present = [torch.ones(len(z), dtype=torch.bool) for z in logits]
    fused, weight = certainty_weighted_mean(logits, t, present)
    certain = torch.stack([z.softmax(1).amax(1) for z in logits], 1)
    found = {"confidence": certain, "weights": weight.T, "fused": fused, "pred": fused.argmax(1).double()}
    other = {"conf": "confidence", "confidences": "confidence", "w": "weights", "logits": "fused", "joint": "fused"}
    return found | {name: found[same] for name, same in other.items()} | {"prediction": found["pred"]}


def kd_strong_to_weak(vector: Vector) -> dict[str, Any]:
    inputs, options = vector["inputs"], vector.get("hyperparams", {})
    if "student_map" in inputs:
        p, t = options.get("p", 2.0), options.get("T", 9.0)
        student, *teachers = (
            torch.nn.functional.normalize(energy(tensor(x), p))
            for x in (inputs["student_map"], *inputs["teacher_maps"])
        )
        loss = attention_alignment(student, teachers, t).mean()
        return {
            "student_attention": student,
            "teacher_attention": teachers[0],
            "loss": loss,
            "loss_released_code": released_mta(student, teachers, t),
        }
    teacher, student = tensor(inputs["teacher_logits_strong"]), tensor(inputs["student_logits_weak"])
    soft = soft_targets(teacher, student, options["T"]).mean()
    hard = cross_entropy(vector, inputs["student_logits_weak"])
    w = options.get("w_hard", 0.0)
    return {
        "loss": w * hard + (1 - w) * soft,
        "soft": soft,
        "hard_ce": hard,
        "loss_hinton_half": (hard + soft) / 2,
    }


def released_mta(student: Tensor, teachers: list[Tensor], t: float) -> Tensor:
    """What MM-DistillNet's code gives, which takes the student's probabilities for their logarithms."""
    together = teachers[0]
    for other in teachers[1:]:
        together = together * other
    if len(teachers) > 1:
        together = torch.nn.functional.normalize(together, p=1.0)
    p, q = (together / t).softmax(1), (student / t).softmax(1)
    return (p * (p.log() - q)).sum(1).mean()


def ssl_pretrain(vector: Vector) -> dict[str, Any]:
    inputs, t = vector["inputs"], vector.get("hyperparams", {}).get("temperature", 1.0)
    if "view1" in inputs:
        return {"loss": nt_xent(tensor(inputs["view1"]), tensor(inputs["view2"]), t).mean()}
    if "audio" in inputs:
        a, v = tensor(inputs["audio"]), tensor(inputs["visual"])
        found = {"loss": info_nce(a, v, t).mean()}
        return found | {"a2v": one_way_of(a, v, t), "v2a": one_way_of(v, a, t)}
    if "pos_cosine" in inputs:
        positive, negative = tensor(inputs["pos_cosine"]) / t, tensor(inputs["neg_cosine"]) / t
        z = negative.exp().mean()
        return {"Z": z, "loss": avid_loss(positive, negative, z).mean()}
    if "x" in inputs:
        terms = vicreg(tensor(inputs["x"]), tensor(inputs["y"]))
        options = vector["hyperparams"]
        weight = {"invariance": options["sim"], "variance": options["std"], "covariance": options["cov"]}
        return {**terms, "loss": sum(weight[name] * x for name, x in terms.items())}
    raise Unsupported("no loss of ours has such inputs")


def one_way_of(a: Tensor, b: Tensor, t: float) -> Tensor:
    return one_way(*(torch.nn.functional.normalize(x) for x in (a, b)), t).mean()


CHECKERS: dict[str, Checker] = {
    "umt": umt,
    "g2d": g2d,
    "di_mml": di_mml,
    "kd_strong_to_weak": kd_strong_to_weak,
    "ssl_pretrain": ssl_pretrain,
}
