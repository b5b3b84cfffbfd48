"""``python -m tests.cpu_requirements`` writes requirements-cpu.txt from requirements-cpu.in and requirements.txt."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WITH_CUDA, OF_TORCH, FOR_CPUS = (ROOT / f"requirements{end}" for end in (".txt", "-cpu.in", "-cpu.txt"))
CUDA = re.compile(r"(cuda|nvidia)-|triton==")
NOTE = (
    "# Written by python -m tests.cpu_requirements from requirements-cpu.in, which says more, and requirements.txt.\n"
)


def packages(text: str) -> list[str]:
    """The packages of a list with hashes, each as its lines. A name may be there twice, for two versions of Python."""
    return re.findall(r"^[\w.-]+==(?:.*\\\n)*.*\n", text, re.MULTILINE)


def name_of(package: str) -> str:
    """The name of a package."""
    return package.partition("==")[0]


def written() -> str:
    """The list for machines without a GPU."""
    source = OF_TORCH.read_text("utf-8")
    torch = packages(source)
    replaced = {name_of(package) for package in torch}
    kept = [p for p in packages(WITH_CUDA.read_text("utf-8")) if name_of(p) not in replaced and not CUDA.match(p)]
    links = re.findall(r"^--find-links .*\n", source, re.MULTILINE)
    return NOTE + "".join(links) + "".join(sorted(kept + torch, key=name_of))


if __name__ == "__main__":
    FOR_CPUS.write_text(written(), "utf-8")
