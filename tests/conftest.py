"""Every test runs on one thread: with more, small tensors wait for each other (and sums change their last bits)."""

import multiprocessing
import os

os.environ["WANDB_MODE"] = "disabled"  # whatever the caller has set: tests of the mirror say what they want
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

torch.set_num_threads(1)
# What processes that a test starts have imported already, whichever test is the first to start one. Tests of ogm alone
# have no benchmarks beside them; what cannot be imported is left out.
multiprocessing.set_forkserver_preload(["torch", "benchmarks.executors.local", "torch._inductor.config"])
