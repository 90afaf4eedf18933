"""On a CPU: memory that a step has freed stays with the process, for the next step."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # glibc's malloc.h


def keep_freed_memory() -> bool:
    """Let glibc keep what is freed instead of giving it back to the system, from now on; False without glibc.

    A step frees and takes the same large blocks again and again. Each time the system has to clear every page of what
    it gets back, which is a tenth of a step's time and more (`benchmarks/freed_memory.py`). The process then holds on
    to the most that it has ever needed.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS, musl, Windows
        return False
    # Blocks that are mapped one by one go back as soon as they are freed, and the heap's end by its threshold.
    return bool(set_option(M_MMAP_MAX, 0) and set_option(M_TRIM_THRESHOLD, -1))
