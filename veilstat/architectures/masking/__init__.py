"""Pairwise masking: owners mask their totals for each other, an untrusted server adds what it cannot read."""

from .architecture import Masking

__all__ = ["Masking"]
