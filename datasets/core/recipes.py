"""Training settings that several datasets share; each dataset's class names its own in ``training_recipe``."""

from __future__ import annotations

import math
from typing import Any

# Small networks for small data. All methods share this recipe; nothing in it was tuned for one of them.
SMALL: dict[str, Any] = {
    "encoders": {"audio": "cnn", "visual": "cnn"},
    "epochs": 20,
    "batch_size": 64,
    "optimizer": "sgd",
    "lr": 0.05,
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "schedule": "cosine",
}
# Optimizer steps that a run of SMALL gets at least, where the size of the data is not known beforehand. 800 clips, of
# which 576 train in nine batches, would get 180 in 20 epochs, after which sound alone has hardly begun to be learned.
STEPS = 540
MOST_EPOCHS, LEAST_BATCH, LEAST_BATCHES = 200, 8, 4  # LEAST_BATCHES: in one epoch
# The released training script of OGM-GE (GeWu-Lab/OGM-GE_CVPR2022 at 343dc1d): SGD 1e-3, 100 epochs, x0.1 every 70.
PAPER: dict[str, Any] = {
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


def small_for(samples: int) -> dict[str, Any]:
    """The recipe SMALL with as many epochs as make ``STEPS`` optimizer steps, 20 to 200 of them.

    So a set with at least 27 batches of 64 keeps the 20 epochs. Below 256 samples the batch is halved until an epoch
    has four batches, down to 8 samples.

    Args:
        samples: How many there are to train on.

    Returns:
        The whole recipe.
    """
    batch = int(SMALL["batch_size"])
    while batch > LEAST_BATCH and samples < LEAST_BATCHES * batch:
        batch //= 2
    epochs = math.ceil(STEPS / max(samples // batch, 1))
    return {**SMALL, "batch_size": batch, "epochs": min(max(int(SMALL["epochs"]), epochs), MOST_EPOCHS)}
