import subprocess
import sys

FAULTS = """
import resource
import numpy as np
from training.memory import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def update():
    # Together more than glibc keeps of its own accord, each less than it always hands back.
    return [np.ones(20 << 20, np.uint8) for _ in range(3)]

print(keep_freed_memory())
update()
before = faults()
for _ in range(5):
    update()
print(faults() - before)
"""


def test_arrays_of_the_next_update_are_not_paged_in_again() -> None:
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, check=True)
    was_asked, num_faults = done.stdout.decode().split()
    # Each of the fifteen arrays has 5,120 pages.
    assert was_asked == "True"
    assert int(num_faults) < 5_120
