"""Training settings that several datasets share; each dataset's class names its own in ``training_recipe``."""

from __future__ import annotations

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
