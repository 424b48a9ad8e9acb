"""Compute servers: data owners split what they send into shares, and servers of different operators compute on them."""

from .architecture import Sharing

__all__ = ["Sharing"]
