"""A SLURM queue for one job on this machine: it runs a batch script, stops it at random moments, and runs it again."""

import os
import random
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

COMMANDS = {
    # A task for each process; their process ids are kept, and the highest exit code counts.
    "srun": """#!/bin/bash
shift  # --kill-on-bad-exit
for ((task = 0; task < SLURM_NTASKS; task++)); do
    SLURM_PROCID=$task SLURM_LOCALID=$task "$@" &
    echo $! >> "$FAKE_SLURM/tasks"
done
code=0
for task in $(cat "$FAKE_SLURM/tasks"); do
    wait "$task"
    ended=$?
    code=$((ended > code ? ended : code))
done
exit $code
""",
    "scontrol": """#!/bin/bash
case $1 in
    show) echo localhost ;;
    requeue) touch "$FAKE_SLURM/requeued" ;;
esac
""",
}


class FakeSlurm:
    """A queue with one job.

    Args:
        folder: for its files.
        script: the batch script.
        path: folders in which the script finds its commands.
        tasks: processes.
    """

    def __init__(self, folder: Path, script: Path, path: str, tasks: int = 1) -> None:
        self.folder, self.script = folder, script
        (folder / "bin").mkdir(parents=True)
        for name, text in COMMANDS.items():
            (folder / "bin" / name).write_text(text)
            (folder / "bin" / name).chmod(0o755)
        job = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NODELIST": "here", "SLURM_NTASKS": str(tasks)}
        job |= {"FAKE_SLURM": str(folder), "PATH": f"{folder / 'bin'}:{path}:{os.environ['PATH']}"}
        self.env = os.environ | job
        self.log = folder / "log.txt"

    def run(self, *arguments: str, stop: signal.Signals | None = None, sign: Path, delay: float = 0.0) -> int:
        """Run the job once; its exit code.

        Args:
            arguments: of the script.
            stop: is sent to its tasks, if it still runs then; SIGKILL is the end of the machine.
            sign: a file; `delay` seconds after it is there, the signal is sent.
        """
        (self.folder / "tasks").unlink(missing_ok=True)
        (self.folder / "requeued").unlink(missing_ok=True)
        sign.unlink(missing_ok=True)
        with self.log.open("a") as log:
            job = subprocess.Popen(["bash", str(self.script), *arguments], env=self.env, stdout=log, stderr=log)
        while stop is not None and job.poll() is None and not sign.exists():
            time.sleep(0.05)
        if stop is not None and job.poll() is None:
            time.sleep(delay)
            for task in (self.folder / "tasks").read_text().split():
                with suppress(ProcessLookupError):
                    os.kill(int(task), stop)
        return job.wait(timeout=600)

    def requeued(self) -> bool:
        """Whether the script has put itself into the queue again."""
        return (self.folder / "requeued").exists()

    def until_done(self, *arguments: str, kills: int, sign: Path, seconds: float = 1.0) -> dict[str, int]:
        """Run the job again and again until it ends by itself, and stop it `kills` times before.

        Returns:
            How often each signal was answered with its exit code.
        """
        rng, answered = random.Random(0), {"SIGUSR1": 0, "SIGTERM": 0, "SIGKILL": 0}
        codes = {138: "SIGUSR1", 143: "SIGTERM", 137: "SIGKILL"}
        while True:
            left = kills - sum(answered.values())
            stop = rng.choice([signal.SIGUSR1, signal.SIGTERM, signal.SIGKILL]) if left > 0 else None
            code = self.run(*arguments, stop=stop, sign=sign, delay=rng.uniform(0, seconds))
            if code == 0:
                return answered
            assert code in codes, self.log.read_text()[-3000:]
            assert self.requeued() == (code != 137), "SLURM itself requeues after the end of a machine"
            answered[codes[code]] += 1
