"""Worker processes do their work, and do not outlive whoever started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil

from mammoscope.processes import process_pool

SCRIPT = """
import os
import time
from mammoscope.processes import new_pool

if __name__ == "__main__":
    pool = new_pool(2)
    print(pool.submit(os.getpid).result(), flush=True)
    time.sleep(600)
"""


def test_a_pool_works_and_is_gone_afterwards():
    with process_pool(2) as pool:
        assert list(pool.map(abs, [-1, 2, -3])) == [1, 2, 3]
        worker = pool.submit(os.getpid).result()
        assert worker != os.getpid()
    assert not psutil.pid_exists(worker)


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
