"""All that only a GPU can tell, in one call of under ten minutes: parts with a share of the time each.

On a CPU the same code runs on tiny sizes, to try the bench itself; what only CUDA can tell is left empty there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from benchmarks.config.example_input import SHAPES
from benchmarks.runner.provenance import provenance
from benchmarks.speed import gpu_runs, gpu_steps, steps
from benchmarks.speed.gpu_steps import Asked
from benchmarks.speed.parts import FOLDER, NO_TIME, Part, carry_out_all, file_name
from models.registry import FUSIONS

# In this order, so that what needs least time is not lost to what needs most. Together nine minutes and a half.
PARTS = (
    Part("steps", "Step time", 130, gpu_steps.step_times),
    Part("launches", "A step's launches, and how long the device works on them", 55, gpu_steps.launches),
    Part("synchronisations", "The host waits for the device within steps", 75, gpu_steps.synchronisations),
    Part("memory", "Peak memory of a step", 40, gpu_steps.peak_memory),
    Part("determinism", "What deterministic algorithms cost", 25, gpu_steps.determinism),
    Part("loading", "Epochs over prepared data", 75, gpu_runs.loading),
    Part("packing", "Two processes on one device", 40, gpu_runs.packing),
    Part("bits", "The same run twice", 70, gpu_runs.same_bits),
    Part("compile", "Compiled encoders", 60, gpu_steps.compiled),
)
BUSY = 0.9  # share of the time that the device should work while data are loaded, with enough processes for it
PATIENCE = 10  # times the shares, on a CPU: nobody waits for a rented device there, and the machine may be busy
TIMED = ("vanilla", "ogm", "ogm_ge", "greedy", "mmpareto", "agm")


def asked_for(device: str, folder: Path) -> Asked:
    """What is measured on a device: sizes of CREMA-D on a GPU, tiny ones on a CPU."""
    if device.startswith("cuda"):
        short = ["dataset=synthav", "epochs=4", "dataset_args.num_train=256"]
        return Asked(device, folder, TIMED, (64, 256), SHAPES, 8, 3, 5_954, (0, 2, 4, 8), short, other_runs())
    tiny = {"audio": (1, 33, 33), "visual": (3, 1, 33, 33)}
    widths = [f"encoder_args.{m}.widths=[8, 8]" for m in tiny]
    sizes = [f"dataset_args.{split}=32" for split in ("num_train", "num_val", "num_test")]
    short = ["dataset=synthav", "epochs=1", "batch_size=8", *sizes, *widths]
    return Asked(device, folder, TIMED[:2], (4,), tiny, 1, 1, 16, (0, 1), short, {"late": ["fusion=late"]})


def other_runs() -> dict[str, list[str]]:
    """Settings of short runs: all methods that are not timed, all fusions, some encoders."""
    methods = {row: [f"method={row}"] for row in steps.methods() if row not in (*TIMED, *steps.FORMS)}
    fusions = {f"{name}, vanilla": [f"fusion={name}"] for name in FUSIONS}
    encoders = {
        f"{name}, vanilla": [f"encoders.{m}={name}" for m in SHAPES] for name in ("resnet18", "vit", "transformer")
    }
    return {**methods, **fusions, **encoders}


def bench_gpu(device: str, out: Path | None) -> int:
    """Measure, print, and write what was measured.

    Args:
        device: What is measured.
        out: A JSON file, which is replaced; None: named after the device, in ``results/bench``.

    Returns:
        The exit code: 1 if something could not be measured for another reason than time.
    """
    made = provenance(device, 1)
    path, console = out or FOLDER / f"{file_name(made['device'])}.json", Console(width=110)
    with tempfile.TemporaryDirectory() as folder:
        asked = asked_for(device, Path(folder))
        if not asked.on_gpu:
            console.print(f"{device}: this tries the bench itself, on tiny sizes; the numbers say nothing.")
        patience = 1 if asked.on_gpu else PATIENCE
        outcomes = carry_out_all(PARTS, asked, {"provenance": made}, path, console, patience)
    for line in verdict(outcomes):
        console.print(line)
    print(path)
    return int(any(why != NO_TIME for one in outcomes.values() for why in one["left_out"].values()))


def verdict(outcomes: Mapping[str, Any]) -> list[str]:
    """What should not be: steps that wait, bits that differ, a device that waits for its data. One line each."""
    rows = {name: one["rows"] for name, one in outcomes.items()}
    waiting = [row for row, x in rows["synchronisations"].items() if x["in_3_steps"] and not x["says_so"]]
    other = [row for row, x in rows["bits"].items() if not x["same_bits"]]
    failed = [row for row, x in rows["bits"].items() if x["status"] == "failed"]
    busiest = [x["share_busy"] for x in rows["loading"].values() if x["share_busy"] is not None]
    return [
        f"steps wait for the device (aim: none does, but where a method says so): {listed(waiting)}",
        f"two runs with one seed differ (aim: none): {listed(other)}",
        f"short runs that failed (aim: none): {listed(failed)}",
        f"busiest while data are loaded (aim: at least {BUSY:.0%}): {f'{max(busiest):.0%}' if busiest else '-'}",
    ]


def listed(names: Sequence[str]) -> str:
    """Names in one line; "none" where there is none."""
    return escape(", ".join(names)) or "none"
