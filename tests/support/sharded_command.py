"""The command `data2vec` with FSDP2 on a CPU; each process leaves its id in a file, so that tests can kill it."""

import os
import sys
from pathlib import Path

from fsdp_on_cpu import shard_on_cpu

import data2vec_cli

if __name__ == "__main__":
    if folder := os.environ.get("PIDS"):
        Path(folder, os.environ["RANK"]).write_text(str(os.getpid()))
    shard_on_cpu()
    sys.exit(data2vec_cli.main())
