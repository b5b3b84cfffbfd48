"""What is used where nothing is said: settings per method and dataset, each with its source.

The settings a dataset is trained with stand in its class, as ``training_recipe`` and ``adaptive_lr``.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from datasets.registry import DATASETS
from ogm.registry import find


@dataclass(frozen=True)
class Default:
    """Settings of one method: per dataset where the sources differ, their source, and the range worth searching."""

    source: str
    everywhere: dict[str, Any] = field(default_factory=dict)
    per_dataset: dict[str, dict[str, Any]] = field(default_factory=dict)
    search: dict[str, list[Any]] = field(default_factory=dict)


_PRETRAINING = Default(
    "AV-MNIST: its grey images have the shape of spectrograms, so their kind is named",
    per_dataset={"avmnist": {"kinds": {"visual": "image"}}},
)
_ALPHA = [0.1, 0.3, 0.5, 0.8, 1.0]
_OGM_ALPHA: dict[str, dict[str, Any]] = {
    **{d: {"alpha": 0.8} for d in ("crema_d", "synthav", "avmnist")},
    "vggsound": {"alpha": 0.1},
}
METHODS: dict[str, Default] = {
    "ogm": Default(
        "CREMA-D, VGGSound: the README of GeWu-Lab/OGM-GE_CVPR2022 at 343dc1d. SynthAV, AV-MNIST: CREMA-D's value, not "
        "tuned",
        per_dataset=_OGM_ALPHA,
        search={"alpha": _ALPHA},
    ),
    "ogm_ge": Default("as ogm", per_dataset=_OGM_ALPHA, search={"alpha": _ALPHA}),
    "weak_boost": Default("this suite's own method and settings", search={"alpha": _ALPHA}),
    "pmr": Default(
        "the commands in fanyunfeng-bit/Modal-Imbalance-PMR at 3615e48: for CREMA-D and AVE, and for CG-MNIST",
        per_dataset={"cg_mnist": {"alpha": 1.0, "end": 60}},
        search={"alpha": [1.0, 2.0, 3.0]},
    ),
    "reconboost": Default(
        "huacong/ReconBoost at 14ab57a. SynthAV, AV-MNIST: one epoch per phase, as in GeWu-Lab/BalanceBenchmark at "
        "4c1482f, since 4 + 4 epochs would make two and a half stages of 20",
        per_dataset={
            "ave": {"weight1": 4.0},
            **{d: {"boost_epochs": 1, "rectify_epochs": 1} for d in ("synthav", "avmnist")},
        },
    ),
    "mmpareto": Default("GeWu-Lab/MMPareto_ICML2024 at a339db3 (CREMA-D)", search={"gamma": [1.0, 1.5, 2.0]}),
    "agm": Default(
        "CREMA-D: the author, in issues 3 and 10 of lihongcs/AGM. AVE: kkontras/MLB at 357b5ce. Elsewhere 1, as the "
        "command line of lihong2303/AGM_ICCV2023 at 5a65542 has if nothing is given",
        per_dataset={d: {"alpha": 1.5} for d in ("crema_d", "ave")},
        search={"alpha": [0.5, 1.0, 1.5, 2.5, 4.0]},
    ),
    "cggm": Default(
        "zrguo/CGGM at 21e428c (MOSI, IEMOCAP); the classifiers have the run's learning rate, whatever the optimizer"
    ),
    "mlb": Default(
        "kkontras/MLB at 357b5ce: CREMA-D and AVE, UCF101",
        per_dataset={"ucf101": {"alpha": 1.0}},
        search={"alpha": _ALPHA},
    ),
    "mslr": Default(
        "CREMA-D, AVE: lihong2303/AGM_ICCV2023 at 5a65542. Elsewhere 1 for each modality; its 1.3 and 0.7 for AV-MNIST "
        "are for other data of that name",
        per_dataset={d: {"init": {"audio": 0.9, "visual": 1.1}} for d in ("crema_d", "ave")},
    ),
    "mses": Default(
        "this suite's patience: a tenth of the run, at least 5 epochs (lihong2303/AGM_ICCV2023 at 5a65542: 80 of 1500)"
    ),
    "inforeg": Default(
        "CREMA-D: GeWu-Lab/InfoReg_CVPR2025 at 939b2ed. Elsewhere its value for audio, for every modality",
        per_dataset={"crema_d": {"beta": {"audio": 0.95, "visual": 0.1}}},
        search={"beta": [0.1, 0.5, 0.95, 2.5]},
    ),
    "uncertainty_weighting": Default("Kendall, Gal and Cipolla, CVPR 2018: the form for classification"),
    "gblend": Default("this suite's length of a super-epoch; whatever it is, a run costs three times joint training"),
    "diagnosing_relearning": Default(
        "GeWu-Lab/Diagnosing_Relearning_ECCV2024 at 025085e: after epochs 20 and 40 of 50. SynthAV, AV-MNIST: the same "
        "shares of 20 epochs",
        per_dataset={d: {"period": 8} for d in ("synthav", "avmnist")},
        search={"lam": [1.0, 3.0, 5.0, 7.0]},
    ),
    "static_lr": Default(
        "this suite: of the factors 0.2, 0.1 and 0.05, the first that matched OGM-GE's test accuracy in a pilot study "
        "on SynthAV, so this row was tuned on test there",
        everywhere={"factors": {"audio": 0.1}},
        search={"factors": [{"audio": f} for f in (0.2, 0.1, 0.05)]},
    ),
    "umt": Default("GeWu-Lab/BalanceBenchmark at 4c1482f", search={"lam": [1.0, 10.0, 50.0]}),
    "g2d": Default("rAIson-Lab/G2D at 95969d8; tau is half of the run"),
    "di_mml": Default(
        "CREMA-D, AVE: fanyunfeng-bit/DI-MML at 83b9b7a. Elsewhere its temperatures for UCF101; stages in its "
        "proportions",
        per_dataset={
            "crema_d": {"temperature": 50.0, "certainty": 1.0},
            "ave": {"temperature": 10.0, "certainty": 3.0},
        },
        search={"temperature": [1.0, 10.0, 50.0]},
    ),
    "kd_strong_to_weak": Default(
        "this suite: soft outputs only, temperature as in MM-DistillNet's code, a fifth of the run for the fusion",
        per_dataset={"avmnist": {"kinds": {"visual": "image"}}},
    ),
    "ssl_pretrain": Default("this suite: pre-training has as many epochs as the run"),
    "ssl_unimodal": _PRETRAINING,
    "ssl_crossmodal": _PRETRAINING,
    "opm": Default(
        "everywhere: the script for Kinetics-Sounds in GeWu-Lab/BML_TPAMI2024 at 4b3aa4f",
        search={"q_base": [0.3, 0.4, 0.5, 0.7], "start": [0, 3, 6]},
    ),
    "opm_ogm": Default("as opm: alpha and window from the same script", search={"alpha": _ALPHA}),
    "mmcosine": Default(
        "the released scripts for CREMA-D and VoxCeleb2; search: also the 15 of GeWu-Lab/BalanceBenchmark at 4c1482f",
        search={"s": [5, 10, 15]},
    ),
    "mbsd": Default(
        "GeWu-Lab/BalanceBenchmark at 4c1482f, with weights of 1", search={"w_kl": [0.1, 1.0], "w_rs": [0.1, 1.0]}
    ),
    "cml": Default(
        "GeWu-Lab/BalanceBenchmark at 4c1482f; the penalty is a sum, so this depends on the batch size",
        search={"lam": [0.01, 0.03, 0.1]},
    ),
    "lfm": Default("the released main script (CREMA-D)", search={"schedule": ["fitted", "heuristic"]}),
    "amco": Default("GeWu-Lab/BalanceBenchmark at 4c1482f", search={"sigma": [0.5, 0.6], "eps": [0.3, 0.5, 1.0]}),
    "modality_dropout": Default(
        "this suite's definition and settings; SynthAV, AV-MNIST: audio only, as in a pilot study on SynthAV",
        per_dataset={d: {"p": {"audio": 0.5}} for d in ("synthav", "avmnist")},
        search={"p": [0.1, 0.3, 0.5]},
    ),
}


def recipe(dataset: str) -> dict[str, Any]:
    """The settings a dataset is trained with, from its class, which is imported; empty for a name nobody knows."""
    return copy.deepcopy(dict(_dataset(dataset).training_recipe)) if dataset in DATASETS else {}


def adaptive_lr(dataset: str) -> float:
    """The learning rate of Adam and AdamW on a dataset: their step does not depend on the gradient's scale."""
    return float(_dataset(dataset).adaptive_lr)


def _dataset(name: str) -> type[Any]:
    return find(name, DATASETS, "dataset")


# What encodes a column of somebody's own data; arrays are features, or sequences of them.
BY_KIND = {"audio": "cnn", "video": "cnn", "frames": "cnn", "image": "cnn", "npy": "mlp", "npz": "mlp"}


def encoders_by_kind(args: Mapping[str, Any]) -> dict[str, str]:
    """Modality -> encoder, for the dataset ``manifest``, by what its columns hold. Raises DataError for its CSV."""
    from datasets.core.manifest_file import csv_path, modalities

    resplit = args.get("folds") is not None
    return {m: BY_KIND[kind] for m, kind in modalities(csv_path(str(args.get("path", ""))), resplit).items()}


def method_defaults(method: str, dataset: str) -> dict[str, Any]:
    """What a method is given on a dataset, beyond the defaults of its own class."""
    if method not in METHODS:
        return {}
    return copy.deepcopy({**METHODS[method].everywhere, **METHODS[method].per_dataset.get(dataset, {})})
