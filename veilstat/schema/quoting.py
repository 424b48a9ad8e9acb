"""Names that somebody wrote into a schema, as people read them: in quotes and on one line where they could be taken for something else."""

from __future__ import annotations

import re

PLAIN = r"[\w.+-]+"
"""What is read as one name wherever it stands."""


def quoted(name: object) -> str:
    """A column's name or a level's, as errors and tables of names have it."""
    text = str(name)
    return text if re.fullmatch(PLAIN, text) else repr(text)


def quoted_unit(unit: str) -> str:
    """The same of a unit, which may have signs and several words."""
    return unit if unit.isprintable() and "," not in unit else repr(unit)
