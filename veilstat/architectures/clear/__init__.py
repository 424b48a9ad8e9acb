"""The plain oracle: nothing is protected, and the plan says so."""

from .architecture import Clear

__all__ = ["Clear"]
