"""What is used where nothing is said: a recipe per dataset, settings per method and dataset, each with its source."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# The pilot's recipe (spec synthav.md, section 2), shared by all methods; nothing in it was tuned for one of them.
_SMALL: dict[str, Any] = {
    "encoders": {"audio": "cnn", "visual": "cnn"},
    "epochs": 20,
    "batch_size": 64,
    "optimizer": "sgd",
    "lr": 0.05,
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "schedule": "cosine",
}
# OGM-GE's released training script: SGD 1e-3, 100 epochs, x0.1 every 70 (spec methods_gradient.md, 3.1).
_PAPER: dict[str, Any] = {
    "encoders": {"audio": "resnet18", "visual": "resnet18"},
    "epochs": 100,
    "batch_size": 64,
    "optimizer": "sgd",
    "lr": 1e-3,
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "schedule": "step",
    "lr_steps": [70],
    "lr_factor": 0.1,
}
# Sequences of features: small transformers and the step they are usually given; not tuned.
_WORDS: dict[str, Any] = {
    **_SMALL,
    "encoders": dict.fromkeys(("text", "audio", "visual"), "transformer"),
    "encoder_args": {m: {"width": 64, "layers": 2} for m in ("text", "audio", "visual")},
    "optimizer": "adam",
    "lr": 1e-3,
}
RECIPES: dict[str, dict[str, Any]] = {
    "synthav": {**_SMALL, "dataset_args": {"preset": "default", "data_seed": 0}},
    "avmnist": {**_SMALL, "dataset_args": {"preset": "mel32", "k": 1}},
    "crema_d": {**_PAPER, "dataset_args": {"preset": "paper", "split": "ogm"}},
    "ave": {**_PAPER, "dataset_args": {"preset": "paper", "split": "paper"}},
    "kinetics_sounds": {**_PAPER, "dataset_args": {"preset": "paper", "split": "ogm"}},
    "vggsound": {**_PAPER, "dataset_args": {"preset": "paper"}},
    "ucf101": {
        **_PAPER,
        "encoders": {"visual": "resnet18", "flow": "resnet18"},
        "dataset_args": {"preset": "paper", "split": 1},
    },
    "manifest": {**_SMALL, "encoders": {}},  # by kind of column, see encoders_by_kind
    "cmu_mosi": _WORDS,
    "cmu_mosei": _WORDS,
    "cg_mnist": {**_SMALL, "encoders": {"gray": "cnn", "color": "cnn"}},
}
# Adam's and AdamW's step does not depend on the gradient's scale: SGD's learning rate means nothing to them.
ADAPTIVE_LR: dict[str, float] = {
    "synthav": 1e-3,
    "avmnist": 1e-3,
    "crema_d": 1e-4,
    "ave": 1e-4,
    "kinetics_sounds": 1e-4,
    "vggsound": 1e-4,
    "ucf101": 1e-4,
    "manifest": 1e-3,
    "cmu_mosi": 1e-3,
    "cmu_mosei": 1e-3,
    "cg_mnist": 1e-3,
}


@dataclass(frozen=True)
class Default:
    """Settings of one method: per dataset where the sources differ, their source, and the range worth searching."""

    source: str
    everywhere: dict[str, Any] = field(default_factory=dict)
    per_dataset: dict[str, dict[str, Any]] = field(default_factory=dict)
    search: dict[str, list[Any]] = field(default_factory=dict)


_PRETRAINING = Default(
    "spec methods_loss.md, section 17; AV-MNIST's grey images are no spectrograms",
    per_dataset={"avmnist": {"kinds": {"visual": "image"}}},
)
_ALPHA = [0.1, 0.3, 0.5, 0.8, 1.0]
_OGM_ALPHA: dict[str, dict[str, Any]] = {
    **{d: {"alpha": 0.8} for d in ("crema_d", "synthav", "avmnist")},
    "vggsound": {"alpha": 0.1},
}
METHODS: dict[str, Default] = {
    "ogm": Default(
        "CREMA-D, VGGSound: the paper's repository, its README. SynthAV, AV-MNIST: CREMA-D's value, not tuned",
        per_dataset=_OGM_ALPHA,
        search={"alpha": _ALPHA},
    ),
    "ogm_ge": Default("as ogm", per_dataset=_OGM_ALPHA, search={"alpha": _ALPHA}),
    "weak_boost": Default("spec methods_gradient.md, 3.5", search={"alpha": _ALPHA}),
    "pmr": Default(
        "the paper's repository, its commands for CREMA-D and AVE, for CG-MNIST",
        per_dataset={"cg_mnist": {"alpha": 1.0, "end": 60}},
        search={"alpha": [1.0, 2.0, 3.0]},
    ),
    "reconboost": Default(
        "the paper's repository (spec methods_gradient.md, 3.14). SynthAV, AV-MNIST: BalanceBenchmark's one epoch per "
        "phase, as 4 + 4 would make two and a half stages of 20",
        per_dataset={
            "ave": {"weight1": 4.0},
            **{d: {"boost_epochs": 1, "rectify_epochs": 1} for d in ("synthav", "avmnist")},
        },
    ),
    "mmpareto": Default("the paper's repository (CREMA-D)", search={"gamma": [1.0, 1.5, 2.0]}),
    "agm": Default(
        "CREMA-D: the author, in an issue; AVE: the MLB repository. Elsewhere the spec's (methods_gradient.md, 3.6)",
        per_dataset={d: {"alpha": 1.5} for d in ("crema_d", "ave")},
        search={"alpha": [0.5, 1.0, 1.5, 2.5, 4.0]},
    ),
    "cggm": Default("spec methods_gradient.md, 3.16; classifiers learn at the run's rate, whatever the optimizer"),
    "mlb": Default(
        "the paper's repository: CREMA-D and AVE, UCF101",
        per_dataset={"ucf101": {"alpha": 1.0}},
        search={"alpha": _ALPHA},
    ),
    "mslr": Default(
        "CREMA-D, AVE: AGM's repository. Elsewhere 1 each (spec methods_gradient.md, section 5); its 1.3 and 0.7 for "
        "AV-MNIST are for other data of that name",
        per_dataset={d: {"init": {"audio": 0.9, "visual": 1.1}} for d in ("crema_d", "ave")},
    ),
    "mses": Default(
        "spec methods_gradient.md, 3.10: a tenth of the run, at least 5 epochs (AGM's repository: 80 of 1500)"
    ),
    "inforeg": Default(
        "CREMA-D: the paper's repository. Elsewhere the spec's (methods_gradient.md, 3.17)",
        per_dataset={"crema_d": {"beta": {"audio": 0.95, "visual": 0.1}}},
        search={"beta": [0.1, 0.5, 0.95, 2.5]},
    ),
    "uncertainty_weighting": Default("spec methods_loss.md, section 2"),
    "gblend": Default("spec methods_gradient.md, 3.11; of any super-epoch, a run costs 3 of joint training"),
    "diagnosing_relearning": Default(
        "the paper's repository (spec methods_gradient.md, 3.13): after epochs 20 and 40 of 50. SynthAV, AV-MNIST: the "
        "same shares of 20 epochs",
        per_dataset={d: {"period": 8} for d in ("synthav", "avmnist")},
        search={"lam": [1.0, 3.0, 5.0, 7.0]},
    ),
    "static_lr": Default(
        "spec synthav.md, section 3: the first of its three factors that matched OGM-GE",
        everywhere={"factors": {"audio": 0.1}},
        search={"factors": [{"audio": f} for f in (0.2, 0.1, 0.05)]},
    ),
    "umt": Default("spec methods_loss.md, section 4 (BalanceBenchmark's)", search={"lam": [1.0, 10.0, 50.0]}),
    "g2d": Default("spec methods_loss.md, section 15: tau is half of the run"),
    "di_mml": Default(
        "CREMA-D, AVE: the paper's repository (spec methods_loss.md, section 14). Elsewhere the spec's; stages in the "
        "paper's proportions",
        per_dataset={
            "crema_d": {"temperature": 50.0, "certainty": 1.0},
            "ave": {"temperature": 10.0, "certainty": 3.0},
        },
        search={"temperature": [1.0, 10.0, 50.0]},
    ),
    "kd_strong_to_weak": Default(
        "spec methods_loss.md, section 16; the fusion gets its 20 epochs of 100",
        per_dataset={"avmnist": {"kinds": {"visual": "image"}}},
    ),
    "ssl_pretrain": Default("spec methods_loss.md, section 17; pre-training has the run's own epochs"),
    "ssl_unimodal": _PRETRAINING,
    "ssl_crossmodal": _PRETRAINING,
    "opm": Default(
        "the paper's repository, its script for Kinetics-Sounds (spec methods_loss.md, section 9), everywhere",
        search={"q_base": [0.3, 0.4, 0.5, 0.7], "start": [0, 3, 6]},
    ),
    "opm_ogm": Default("as opm and, for Kinetics-Sounds, ogm (section 10)", search={"alpha": _ALPHA}),
    "mmcosine": Default(
        "the paper's repository, CREMA-D and VoxCeleb2; search: BalanceBenchmark's 15", search={"s": [5, 10, 15]}
    ),
    "mbsd": Default("BalanceBenchmark, with unit weights (section 6)", search={"w_kl": [0.1, 1.0], "w_rs": [0.1, 1.0]}),
    "cml": Default("BalanceBenchmark (section 7); the batch's sum, so for its size", search={"lam": [0.01, 0.03, 0.1]}),
    "lfm": Default("the paper's repository (section 8)", search={"schedule": ["fitted", "heuristic"]}),
    "amco": Default("BalanceBenchmark (section 11)", search={"sigma": [0.5, 0.6], "eps": [0.3, 0.5, 1.0]}),
    "modality_dropout": Default(
        "spec methods_loss.md, section 12; SynthAV, AV-MNIST: synthav.md, section 3 (audio only)",
        per_dataset={d: {"p": {"audio": 0.5}} for d in ("synthav", "avmnist")},
        search={"p": [0.1, 0.3, 0.5]},
    ),
}


def recipe(dataset: str) -> dict[str, Any]:
    """The settings a dataset is trained with; empty for a name nobody knows."""
    return copy.deepcopy(RECIPES.get(dataset, {}))


# What encodes a column of somebody's own data; arrays are features, or sequences of them.
BY_KIND = {"audio": "cnn", "video": "cnn", "frames": "cnn", "image": "cnn", "npy": "mlp", "npz": "mlp"}


def encoders_by_kind(args: Mapping[str, Any]) -> dict[str, str]:
    """Modality -> encoder, for the dataset ``manifest``, by what its columns hold. Raises DataError for its CSV."""
    from datasets.core.manifest_file import modalities, where

    return {m: BY_KIND[kind] for m, kind in modalities(where(str(args.get("path", "")))).items()}


def method_defaults(method: str, dataset: str) -> dict[str, Any]:
    """What a method is given on a dataset, beyond the defaults of its own class."""
    if method not in METHODS:
        return {}
    return copy.deepcopy({**METHODS[method].everywhere, **METHODS[method].per_dataset.get(dataset, {})})
