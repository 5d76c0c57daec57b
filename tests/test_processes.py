"""Worker processes do their work, and do not outlive whoever started them."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import time

import psutil
import pytest

from mammoscope.errors import MammoscopeError
from mammoscope.processes import is_first_process, mapped, process_pool

SCRIPT = """
import os
import time
from mammoscope.processes import process_pool

if __name__ == "__main__":
    with process_pool(2) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        time.sleep(600)
"""


FAULTS = """
import resource
from mammoscope.processes import keep_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(b"1") * 50_000_000
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults(), faults())
keep_memory()
print(faults(), faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_memory_of_one_image_serves_the_next():
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True
    )
    first, again, _, kept = map(int, done.stdout.split())
    assert min(first, again) > 10_000
    assert kept < 100


HELD = """
import os, signal, threading, time
from mammoscope.processes import without_interrupts

# Another thread, which no mask of this one makes deaf.
threading.Thread(target=threading.Event().wait, daemon=True).start()
try:
    with without_interrupts():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)
        print("held", flush=True)
    time.sleep(30)
except KeyboardInterrupt:
    print("then raised", flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="no signal masks")
def test_an_interrupt_is_held_back_whatever_thread_takes_it():
    done = subprocess.run(
        [sys.executable, "-c", HELD], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split("\n")[:2] == ["held", "then raised"]


def test_a_pool_works_and_is_gone_afterwards():
    with process_pool(2) as pool:
        assert list(pool.map(abs, [-1, 2, -3])) == [1, 2, 3]
        worker = pool.submit(os.getpid).result()
        assert worker != os.getpid()
    assert not psutil.pid_exists(worker)


def ended_from_outside(number):
    """Run by a worker."""
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return -number


def test_results_come_in_the_order_of_tasks_from_any_number_of_workers():
    for workers in (1, 2):
        assert list(mapped(abs, range(-9, 0), workers, chunk=2)) == list(range(9, 0, -1))


def test_a_worker_that_is_ended_is_a_sentence():
    with pytest.raises(MammoscopeError, match="fewer --workers"):
        list(mapped(ended_from_outside, range(6), 2))


CTRL_C = """
import time
from mammoscope.processes import process_pool

if __name__ == "__main__":
    try:
        with process_pool(2) as pool:
            jobs = [pool.submit(time.sleep, 1.5) for _ in range(8)]
            print("begun", flush=True)
            [job.result() for job in jobs]
    except KeyboardInterrupt:
        print("stopped", flush=True)
"""


@pytest.mark.parametrize(("after_s", "times"), [(0.0, 1), (2.0, 1), (2.0, 2)])
def test_an_interrupt_ends_everything_without_a_word_from_workers(tmp_path, after_s, times):
    script = tmp_path / "parent.py"
    script.write_text(CTRL_C)
    parent = subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout.readline() == "begun\n"
    time.sleep(after_s)
    for _ in range(times):
        # A terminal sends it to the whole group.
        os.killpg(parent.pid, signal.SIGINT)
        time.sleep(0.1)
    out, err = parent.communicate(timeout=60)
    assert out == "stopped\n"
    assert "Traceback" not in err
    assert parent.returncode == 0


def test_workers_end_when_their_parent_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(SCRIPT)
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    try:
        worker = int(parent.stdout.readline())
        assert psutil.pid_exists(worker)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        for _ in range(600):
            if not psutil.pid_exists(worker) or psutil.Process(worker).status() == "zombie":
                break
            time.sleep(0.1)
        else:
            raise AssertionError("the worker is still there a minute after its parent's end")
    finally:
        parent.kill()
        parent.stdout.close()


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"])
def test_only_the_first_of_several_training_processes_writes(monkeypatch, name):
    for each in ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(each, raising=False)
    assert is_first_process()
    monkeypatch.setenv(name, "0")
    assert is_first_process()
    monkeypatch.setenv(name, "1")
    assert not is_first_process()
