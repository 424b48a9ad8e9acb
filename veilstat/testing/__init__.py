"""For tests: faults to inject, an openly insecure backend, and the conformance suite of architectures."""

from veilstat.transports.memory import Delay, Dropout, Duplicate, Lie, Loss, Reorder, Tamper

from .toy import ToyArithmetic

__all__ = ["Delay", "Dropout", "Duplicate", "Lie", "Loss", "Reorder", "Tamper", "ToyArithmetic"]
