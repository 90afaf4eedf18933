"""Two runs in one folder are told so; a killed one locks nothing."""

import subprocess
import sys

import pytest

from modeling_data2vec.trainers.runs.run_lock import only_run_in

# Holds the lock until its input ends; without the package's imports, which take long.
HOLDER = """
import fcntl, os, socket, sys
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
os.write(file, f"process {os.getpid()} on {socket.gethostname()}".encode())
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other_run(tmp_path):
    (tmp_path / ".incomplete").mkdir()
    command = [sys.executable, "-c", HOLDER, str(tmp_path / ".incomplete" / "run.lock")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"locked\n"
    yield process
    process.kill()
    process.communicate()


def test_another_run_is_named_and_a_killed_one_is_none(tmp_path, other_run):
    (tmp_path / ".incomplete" / "checkpoint-4").mkdir()
    message = rf"another run \(process {other_run.pid} on .+\) is writing to {tmp_path}"
    with pytest.raises(ValueError, match=message), only_run_in(tmp_path):
        raise AssertionError("the block must not begin")
    assert (tmp_path / ".incomplete" / "checkpoint-4").exists()  # the other's
    with only_run_in(tmp_path, main_process=False):
        pass  # of the run's other processes, which ask nobody
    other_run.kill()
    other_run.wait()
    with only_run_in(tmp_path):
        assert not (tmp_path / ".incomplete" / "checkpoint-4").exists()
    assert not list(tmp_path.iterdir())


def test_a_run_within_a_run_is_the_same_one(tmp_path):
    with only_run_in(tmp_path / "runs" / "a"):
        with only_run_in(tmp_path / "runs" / "a"):
            pass
        code = "import sys; sys.argv[1:] = [r'%s']\n" % (tmp_path / "runs/a/.incomplete/run.lock") + HOLDER
        held = subprocess.run([sys.executable, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert "BlockingIOError" in held.stderr or "PermissionError" in held.stderr
    assert not list(tmp_path.iterdir())  # nothing was written


def test_a_folder_that_nobody_can_write_to_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    message = f"{tmp_path}/file/run can't be written to: Not a directory"
    with pytest.raises(ValueError, match=message), only_run_in(tmp_path / "file" / "run"):
        raise AssertionError("the block must not begin")


def test_a_file_system_without_locks_gives_a_warning(tmp_path, monkeypatch, caplog):
    def no_locks(*arguments):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("modeling_data2vec.trainers.runs.run_lock.fcntl.lockf", no_locks)
    with only_run_in(tmp_path):
        assert "has no locks (No locks available)" in caplog.text
