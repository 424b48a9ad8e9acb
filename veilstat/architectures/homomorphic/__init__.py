"""Threshold homomorphic encryption: owners encrypt under a key that nobody holds whole, an untrusted cloud adds."""

from .architecture import Homomorphic

__all__ = ["Homomorphic"]
