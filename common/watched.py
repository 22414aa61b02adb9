"""Runs a script that ends when whoever started it ends: `python watched.py SCRIPT FLAGS`, with a pipe as its stdin.

The system closes the pipe when the process at its other end is gone, killed or not, on every system.
"""

import _thread
import os
import runpy
import signal
import sys
import threading
import time

GRACE = 2.0  # seconds for an orderly end


def _end_with_the_other_end() -> None:
    while os.read(0, 1):
        pass
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)  # wakes what sleeps
    else:
        _thread.interrupt_main()
    time.sleep(GRACE)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_the_other_end, daemon=True).start()
    sys.argv = sys.argv[1:]
    sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))
    runpy.run_path(sys.argv[0], run_name="__main__")
