"""TOML files, with errors that say which."""

from __future__ import annotations

import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

from veilstat.language.errors import SchemaError


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as plain data, fractions as Decimal; SchemaError if there is none or it is not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except (FileNotFoundError, IsADirectoryError):
        raise SchemaError(f"there is no file {str(path)!r}", code="no_file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SchemaError(f"{path.name} is not TOML: {error}", code="bad_toml") from None
