"""Every test runs on one thread: with more, small tensors wait for each other (and sums change their last bits)."""

import os

os.environ["WANDB_MODE"] = "disabled"  # whatever the caller has set: tests of the mirror say what they want
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

torch.set_num_threads(1)
