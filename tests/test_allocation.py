"""A compute server keeps memory that arrays gave back, where the C library can."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from types import SimpleNamespace

import pytest

from veilstat.platform.allocation import KEPT, keep_freed_memory

FAULTS = """
import ctypes, resource, sys
import numpy as np
from veilstat.platform.allocation import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory(ctypes.CDLL(None))
arrays = [np.ones(1 << 19, dtype=np.uint8) for _ in range(8)]
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    arrays = [np.ones(1 << 19, dtype=np.uint8) for _ in range(8)]
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how):
    done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
def test_pages_are_not_asked_for_again():
    assert faults("kept") < 3000


def test_a_library_without_the_call_is_left_alone():
    assert not keep_freed_memory(SimpleNamespace())


def test_refused_parameters_are_said():
    asked = []
    library = SimpleNamespace(mallopt=lambda parameter, value: asked.append((parameter, value)) or 0)
    assert not keep_freed_memory(library)
    assert asked == [(-1, KEPT)]
