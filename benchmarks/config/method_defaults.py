"""What is used where nothing is said: settings per method and dataset, each with its source.

The settings a dataset is trained with stand in its class: ``training_recipe``, ``recipe_for`` and ``adaptive_lr``.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.config.search import Choice, EachModality, LogUniform, OneModality, Space, Uniform
from datasets.registry import DATASETS
from ogm.registry import find


@dataclass(frozen=True)
class Default:
    """Settings of one method, and what a search for better ones tries.

    Args:
        source: Whose settings these are.
        everywhere: Option -> value on every dataset.
        per_dataset: Dataset -> option -> value, where the sources differ.
        search: Option -> what its values are drawn from, around those that the sources use or recommend.
    """

    source: str
    everywhere: dict[str, Any] = field(default_factory=dict)
    per_dataset: dict[str, dict[str, Any]] = field(default_factory=dict)
    search: Space = field(default_factory=dict)


_PRETRAINING = Default(
    "AV-MNIST: its grey images have the shape of spectrograms, so their kind is named",
    per_dataset={"avmnist": {"kinds": {"visual": "image"}}},
)
_SHORT = ("synthav", "avmnist", "grid", "mfeat")  # data sets whose runs have 20 epochs
_ALPHA = LogUniform(0.1, 1.0)
_OGM_ALPHA: dict[str, dict[str, Any]] = {
    **{d: {"alpha": 0.8} for d in ("crema_d", "synthav", "avmnist")},
    "vggsound": {"alpha": 0.1},
}
_OPM: Space = {
    "q_base": Uniform(0.3, 0.7),
    "lam": Uniform(0.25, 1.0),
    "p_exe": Uniform(0.3, 1.0),
    "start": Choice((0, 3, 6)),
}
METHODS: dict[str, Default] = {
    "ume": Default(
        "averaged probabilities, as third parties describe the method",
        search={"rule": Choice(("prob_mean", "logit_mean"))},
    ),
    "equal_weight_multiloss": Default(
        "heads of its own, as the uniform baseline of GeWu-Lab/MMPareto_ICML2024 at a339db3",
        search={"heads": Choice(("dedicated", "shared"))},
    ),
    "mla": Default(
        "Cecile-hi/Multimodal-Learning-with-Alternating-Unimodal-Adaptation at ab6c184",
        search={"normalize": Choice(("fro", "none"))},
    ),
    "greedy": Default(
        "nyukat/greedy_multimodal_learning at a190e03",
        search={"epsilon": LogUniform(0.003, 0.1), "window": Choice((2, 5, 10))},
    ),
    "modality_valuation": Default(
        "the sample level; the warm-up is that released for Kinetics-Sounds",
        search={
            "level": Choice(("sample", "modality")),
            "warmup": Choice((0, 2, 5)),
            "alpha": LogUniform(0.3, 3.0),
        },
    ),
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
        search={
            "alpha": LogUniform(0.5, 4.0),
            "momentum": Choice((0.0, 0.5, 0.9)),
            "coefficient": Choice(("binary", "clipped")),
        },
    ),
    "reconboost": Default(
        "huacong/ReconBoost at 14ab57a. SynthAV, AV-MNIST, GRID, MFeat: one epoch per phase, as in "
        "GeWu-Lab/BalanceBenchmark at 4c1482f, since 4 + 4 epochs would make two and a half stages of 20",
        per_dataset={
            "ave": {"weight1": 4.0},
            **{d: {"boost_epochs": 1, "rectify_epochs": 1} for d in _SHORT},
        },
        search={"weight1": Uniform(2.0, 8.0), "weight2": Uniform(0.5, 1.5)},
    ),
    "mmpareto": Default("GeWu-Lab/MMPareto_ICML2024 at a339db3 (CREMA-D)", search={"gamma": Uniform(1.0, 2.0)}),
    "agm": Default(
        "CREMA-D: the author, in issues 3 and 10 of lihongcs/AGM. AVE: kkontras/MLB at 357b5ce. Elsewhere 1, as the "
        "command line of lihong2303/AGM_ICCV2023 at 5a65542 has if nothing is given",
        per_dataset={d: {"alpha": 1.5} for d in ("crema_d", "ave")},
        search={"alpha": LogUniform(0.5, 4.0)},
    ),
    "cggm": Default(
        "zrguo/CGGM at 21e428c (MOSI, IEMOCAP); the classifiers have the run's learning rate, whatever the optimizer",
        search={"rho": Uniform(1.0, 1.6), "lam": LogUniform(0.05, 0.5)},
    ),
    "mlb": Default(
        "kkontras/MLB at 357b5ce: CREMA-D and AVE, UCF101",
        per_dataset={"ucf101": {"alpha": 1.0}},
        search={"alpha": _ALPHA, "beta": Uniform(1.5, 3.0)},
    ),
    "mslr": Default(
        "CREMA-D, AVE: lihong2303/AGM_ICCV2023 at 5a65542. Elsewhere 1 for each modality; its 1.3 and 0.7 for AV-MNIST "
        "are for other data of that name",
        per_dataset={d: {"init": {"audio": 0.9, "visual": 1.1}} for d in ("crema_d", "ave")},
        search={
            "init": EachModality(LogUniform(0.5, 2.0)),
            "rule": Choice(("dynamic", "keep")),
            "memory": Choice((3, 5, 10)),
        },
    ),
    "mses": Default(
        "this suite's patience: a tenth of the run, at least 5 epochs (lihong2303/AGM_ICCV2023 at 5a65542: 80 of 1500)",
        search={"patience": Choice((2, 3, 5, 10))},
    ),
    "inforeg": Default(
        "CREMA-D: GeWu-Lab/InfoReg_CVPR2025 at 939b2ed. Elsewhere its value for audio, for every modality",
        per_dataset={"crema_d": {"beta": {"audio": 0.95, "visual": 0.1}}},
        search={"beta": EachModality(LogUniform(0.1, 2.5)), "threshold": LogUniform(0.02, 0.1)},
    ),
    "uncertainty_weighting": Default(
        "Kendall, Gal and Cipolla, CVPR 2018: the form for classification",
        search={"kind": Choice(("classification", "regression_half", "unit")), "s_init": Uniform(-1.0, 1.0)},
    ),
    "gblend": Default(
        "this suite's length of a super-epoch; whatever it is, a run costs three times joint training",
        search={"mode": Choice(("online", "offline")), "super_epoch": Choice((5, 10, 20))},
    ),
    "mcr": Default(
        "kkontras/MCR at 338d370: CREMA-D (its run.sh; its README has 0.01) and AVE",
        per_dataset={"ave": {"weight": 0.01}},
        search={
            "weight": LogUniform(0.003, 1.0),
            "w_uni": Choice((0.01, 0.1, 1.0)),
            "w_con": Choice((0.0, 0.1, 1.0)),
            "temperature": Choice((0.1, 0.5)),
        },
    ),
    "dgl": Default(
        "shicaiwei123/ICCV2025-GDL at b72a55f: its default, also for CREMA-D; its commands for Kinetics-Sounds and "
        "VGGSound",
        per_dataset={"kinetics_sounds": {"alpha": 3.0}, "vggsound": {"alpha": 2.0}},
        search={"alpha": LogUniform(0.5, 8.0)},
    ),
    "midas": Default(
        "Hwang, Choi and Whang, NeurIPS 2025; the length of the warm-up is this suite's",
        per_dataset={"kinetics_sounds": {"lam": 5.0}},
        search={
            "lam": Choice((0.5, 1.0, 2.0, 5.0, 10.0)),
            "warmup": Choice((0.0, 0.05, 0.1, 0.2)),
            "eta": Choice((0.02, 0.05, 0.1)),
        },
    ),
    "mimo": Default(
        "Fernando et al., 2025: CREMA-D, AVE and AV-MNIST; elsewhere their most frequent settings",
        per_dataset={"crema_d": {"lam": 100.0}, "ave": {"lam": 100.0}, "avmnist": {"mu": 0.1}},
        search={"lam": Choice((1.0, 3.0, 10.0, 30.0, 100.0)), "mu": Choice((0.001, 0.01, 0.1, 1.0))},
    ),
    "diagnosing_relearning": Default(
        "GeWu-Lab/Diagnosing_Relearning_ECCV2024 at 025085e: after epochs 20 and 40 of 50. SynthAV, AV-MNIST, GRID, "
        "MFeat: the same shares of 20 epochs",
        per_dataset={d: {"period": 8} for d in _SHORT},
        search={"lam": Uniform(1.0, 7.0), "number": Choice((1, 2, 3))},
    ),
    "static_lr": Default(
        "this suite: of the factors 0.2, 0.1 and 0.05, the first that matched OGM-GE's test accuracy in a pilot study "
        "on SynthAV, so this row was tuned on test there",
        everywhere={"factors": {"audio": 0.1}},
        search={"factors": OneModality(LogUniform(0.03, 1.0), others=1.0)},
    ),
    "umt": Default("GeWu-Lab/BalanceBenchmark at 4c1482f", search={"lam": LogUniform(1.0, 50.0)}),
    "g2d": Default(
        "rAIson-Lab/G2D at 95969d8; tau is half of the run",
        search={
            "alpha": LogUniform(0.1, 10.0),
            "beta": LogUniform(0.1, 10.0),
            "temperature": Choice((1.0, 2.0, 4.0)),
        },
    ),
    "di_mml": Default(
        "CREMA-D, AVE: fanyunfeng-bit/DI-MML at 83b9b7a. Elsewhere its temperatures for UCF101; stages in its "
        "proportions",
        per_dataset={
            "crema_d": {"temperature": 50.0, "certainty": 1.0},
            "ave": {"temperature": 10.0, "certainty": 3.0},
        },
        search={"w": LogUniform(0.3, 3.0), "temperature": LogUniform(1.0, 50.0), "certainty": LogUniform(1.0, 3.0)},
    ),
    "kd_strong_to_weak": Default(
        "this suite: soft outputs only, temperature as in MM-DistillNet's code, a fifth of the run for the fusion",
        per_dataset={"avmnist": {"kinds": {"visual": "image"}}},
        search={"temperature": LogUniform(1.0, 10.0), "w_hard": Uniform(0.0, 0.9)},
    ),
    "ssl_pretrain": Default(
        "this suite: pre-training has as many epochs as the run",
        search={
            "objective": Choice(("simclr", "vicreg", "av_infonce", "avid")),
            "slow": LogUniform(0.03, 1.0),
            "warmup": Choice((0, 2, 5)),
        },
    ),
    "ssl_unimodal": _PRETRAINING,
    "ssl_crossmodal": _PRETRAINING,
    "opm": Default(
        "everywhere: the script for Kinetics-Sounds in GeWu-Lab/BML_TPAMI2024 at 4b3aa4f",
        search=_OPM,
    ),
    "opm_ogm": Default("as opm: alpha and window from the same script", search={**_OPM, "alpha": _ALPHA}),
    "mmcosine": Default(
        "the released scripts for CREMA-D and VoxCeleb2; search: also the 15 of GeWu-Lab/BalanceBenchmark at 4c1482f",
        search={"s": LogUniform(5.0, 20.0)},
    ),
    "mbsd": Default(
        "GeWu-Lab/BalanceBenchmark at 4c1482f, with weights of 1",
        search={name: LogUniform(0.1, 2.0) for name in ("w_kl", "w_rs", "w_uni")},
    ),
    "cml": Default(
        "GeWu-Lab/BalanceBenchmark at 4c1482f; the penalty is a sum, so this depends on the batch size",
        search={"lam": LogUniform(0.01, 0.3)},
    ),
    "lfm": Default(
        "the released main script (CREMA-D)",
        search={"schedule": Choice(("fitted", "heuristic")), "align": Choice(("mixture_to_branches", "true_js"))},
    ),
    "amco": Default(
        "GeWu-Lab/BalanceBenchmark at 4c1482f", search={"sigma": Uniform(0.5, 0.6), "eps": LogUniform(0.2, 1.0)}
    ),
    "modality_dropout": Default(
        "this suite's definition and settings; SynthAV, AV-MNIST: audio only, as in a pilot study on SynthAV",
        per_dataset={d: {"p": {"audio": 0.5}} for d in ("synthav", "avmnist")},
        search={"p": EachModality(Choice((0.0, 0.1, 0.3, 0.5)))},
    ),
    "pdmp": Default(
        "this suite's rule and factor: the paper's coefficients were not available, and there is no released code",
        search={"kappa": Choice((1.25, 1.5, 2.0, 3.0, 5.0, 8.0))},
    ),
    "udi": Default(
        "this suite's estimator of the mutual information: the paper names no settings of it, and there is no released "
        "code",
        search={"estimator_lr": Choice((1e-4, 1e-3, 1e-2)), "width": Choice((64, 256))},
    ),
    "bss": Default(
        "njustkmg/IJCAI25-BSS at 495b94e (train-CL.py of CREMA-D): all samples from epoch 40 of 120 on",
        search={
            "fused_weight": Choice((0.1, 0.3, 0.5)),
            "lam0": Choice((0.05, 0.1, 0.2, 0.3, 0.5)),
            "grow": Choice((0.1, 0.2, 0.33, 0.5, 1.0)),
        },
    ),
    "amss": Default(
        "the commands in njustkmg/TPAMI-AMSS at 3161ecc (AMSS: CREMA-D, Kinetics-Sounds). CMU-MOSI: its encoders have "
        "no convolutions of images",
        per_dataset={"cmu_mosi": {"scope": "weights"}},
        search={
            "mode": Choice(("random", "adaptive", "unbiased")),
            "temperature": Choice((0.05, 0.1, 0.2, 0.5, 1.0)),
        },
    ),
    "aug": Default(
        "njustkmg/NeurIPS25-AUG at 841d079, with equal weights of the modalities in the prediction",
        search={
            "lam": Choice((0.1, 0.2, 0.33, 0.5, 1.0)),
            "every": Choice((0.025, 0.05, 0.1, 0.2)),
            "merge": Choice((0.3, 0.4, 0.5, 0.6, 0.7)),
        },
    ),
    "miles": Default(
        "Guerra-Manzanares and Shamout, IJCNN 2025: the best of their experiments",
        search={"tau": Choice((0.0, 0.05, 0.1, 0.2, 0.3, 0.5)), "mu": Choice((0.05, 0.1, 0.25, 0.5, 0.75))},
    ),
    "iprm": Default(
        "the commands of njustkmg/IJCAI25-IPRM at 0bb457f",
        search={"alpha": Choice((0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99))},
    ),
    "mnl": Default(
        "the script for MVSA in BaoquanGong/Multimodal-Negative-Learning at 64cea56",
        search={"lam": Choice((0.1, 0.3, 0.5, 0.7, 1.0, 2.0, 5.0))},
    ),
    "arl": Default(
        "Wei, Luo and Luo, ICCV 2025: gamma of the paper, its temperature for all data but CREMA-D (8)",
        per_dataset={"crema_d": {"temperature": 8.0}},
        search={
            "gamma": Choice((0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 8.0)),
            "temperature": Choice((1.0, 2.0, 4.0, 8.0, 16.0)),
        },
    ),
    "remix": Default(
        "MatthewMaxy/Remix_ICML2025 at 80898aa; the warm-up is its share of the run, 10 of 60 epochs",
        search={
            "warmup": Choice((0.05, 0.1, 0.15, 0.25, 0.4)),
            "w": Choice((0.25, 0.5, 1.0)),
            "gamma": Choice((0.25, 0.5, 1.0, 2.0)),
        },
    ),
}


def recipe(dataset: str, args: Mapping[str, Any]) -> dict[str, Any]:
    """The settings a dataset is trained with, from its class, which is imported.

    Args:
        dataset: Its name.
        args: The options of the dataset that are given; the recipes of some datasets depend on them.

    Returns:
        Setting -> value; empty for a name nobody knows.

    Raises:
        DataError: The recipe depends on a list that cannot be read.
    """
    return copy.deepcopy(dict(_dataset(dataset).recipe_for(args))) if dataset in DATASETS else {}


def adaptive_lr(dataset: str) -> float:
    """The learning rate of Adam and AdamW on a dataset: their step does not depend on the gradient's scale."""
    return float(_dataset(dataset).adaptive_lr)


def _dataset(name: str) -> type[Any]:
    return find(name, DATASETS, "dataset")


def search_space(method: str) -> Space:
    """What a search draws a method's options from; empty for one without options, or without a known range."""
    return METHODS[method].search if method in METHODS else {}


def method_defaults(method: str, dataset: str) -> dict[str, Any]:
    """What a method is given on a dataset, beyond the defaults of its own class."""
    if method not in METHODS:
        return {}
    return copy.deepcopy({**METHODS[method].everywhere, **METHODS[method].per_dataset.get(dataset, {})})
