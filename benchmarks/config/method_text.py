"""What the docstring of a method's class says, in parts: idea, steps, options, differences and references."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass

_ARXIV = re.compile(r"arXiv (\d{4}\.\d{4,5})")
_REPOSITORY = re.compile(r"\b([\w-]+/[\w.-]+) at ([0-9a-f]{7,40})\b")
NO_CODE = "Code: none"  # begins the reference of a method whose code nobody released, or could not be read


@dataclass(frozen=True)
class MethodText:
    """The docstring of a class, without its indentation.

    Attributes:
        idea: Its first sentence, in one line.
        algorithm: What stands between it and the first heading, as it is laid out there.
        options: Option -> what it means, in one line.
        differences: One line for each place where paper, released code and ours disagree.
        references: One line for each source.
    """

    idea: str
    algorithm: str
    options: dict[str, str]
    differences: tuple[str, ...]
    references: tuple[str, ...]

    @property
    def papers(self) -> list[str]:
        """Authors, venue and year of each paper; "this suite" for what is our own."""
        return [x.partition(": ")[2].rstrip(".") for x in self.references if x.startswith("Paper")] or [self._otherwise]

    @property
    def arxiv(self) -> list[str]:
        """Addresses of the papers that are on arXiv."""
        return [f"https://arxiv.org/abs/{number}" for x in self.references for number in _ARXIV.findall(x)]

    @property
    def repositories(self) -> dict[str, str]:
        """Repository (owner/name) -> the commit of it that was read."""
        return {name: commit for x in self.references for name, commit in _REPOSITORY.findall(x)}

    @property
    def code(self) -> list[str]:
        """Address of each repository at its commit; a sentence if none was released or could be read."""
        read = [f"https://github.com/{name}/tree/{commit}" for name, commit in self.repositories.items()]
        none = [x.partition(": ")[2].rstrip(".") for x in self.references if x.startswith(NO_CODE)]
        return [*none, *read] or [self._otherwise]

    @property
    def _otherwise(self) -> str:
        """What is said where no paper, or no code, is named."""
        return "this suite" if any(x.startswith("This suite") for x in self.references) else "not named"


def method_text(cls: type) -> MethodText:
    """Take the docstring of a method, fusion or other registered class apart.

    Args:
        cls: The class.

    Returns:
        The parts; empty where the docstring has none.
    """
    head, *rest = re.split(r"^(Args|Differences|References):$", inspect.cleandoc(cls.__doc__ or ""), flags=re.MULTILINE)
    parts = dict(zip(rest[::2], map(inspect.cleandoc, rest[1::2]), strict=True))
    idea, _, algorithm = head.partition("\n\n")
    options = dict(re.findall(r"^(\w+): (.*(?:\n +.*|\n(?=\n))*)", parts.get("Args", ""), re.MULTILINE))
    return MethodText(
        one_line(idea),
        algorithm.strip(),
        {name: one_line(text) for name, text in options.items()},
        _bullets(parts.get("Differences", "")),
        _bullets(parts.get("References", "")),
    )


def one_line(text: str) -> str:
    """Join the lines of a paragraph."""
    return " ".join(text.split())


def _bullets(text: str) -> tuple[str, ...]:
    """The entries of a list in Markdown, each in one line."""
    return tuple(one_line(entry) for entry in re.split(r"^- ", text, flags=re.MULTILINE)[1:])
