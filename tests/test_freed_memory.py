"""On a CPU, memory that was freed is there for the next step, without a page fault for each page."""

import subprocess
import sys

import pytest

from modeling_data2vec.trainers import freed_memory

FAULTS = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from freed_memory import keep_freed_memory
kept = keep_freed_memory() if sys.argv[2] == "kept" else True
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(2**26)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(kept, faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is on Linux")
def test_the_system_gives_each_page_once():
    folder = freed_memory.__file__.rpartition("/")[0]
    found = {}
    for how in ("kept", "given back"):
        command = [sys.executable, "-c", FAULTS, folder, how]
        kept, faults = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        if kept == "False":
            pytest.skip("another C library")
        found[how] = int(faults)
    assert found["kept"] < 100 < found["given back"]
