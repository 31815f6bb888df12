"""A worker of a sweep: `python -m m2hf.fuse.sweep.worker_process`.

It reads jobs from stdin, a line each, and answers each with a line on stdout. When stdin ends, as
it does when the process that started it dies, it ends at once.
"""

import os
import queue
import signal
import sys
import threading

from m2hf.fuse.sweep.job import answer


def main() -> None:
    """Do jobs until stdin ends."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    jobs: queue.SimpleQueue[str] = queue.SimpleQueue()
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)  # what libraries print is no answer
        threading.Thread(target=_read, args=(jobs,), daemon=True).start()
        while True:
            print(answer(jobs.get()), file=answers, flush=True)


def _read(jobs: "queue.SimpleQueue[str]") -> None:
    for line in sys.stdin:
        jobs.put(line)
    os._exit(0)


if __name__ == "__main__":
    main()
