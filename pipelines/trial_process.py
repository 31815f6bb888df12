"""The child process of a trial (`pipelines/trial.py`): `python -m m2hf.pipelines.trial_process`.

It reads a TrialRequest from stdin, which stays open as long as its parent lives, and writes two
lines to stdout: the name of its ledger file, and when it has finished a WorkerError as JSON, whose
message is "" for none.
"""

import json
import os
import signal
import sys
import threading
from dataclasses import asdict

from m2hf.errors import EXIT_INTERRUPTED
from m2hf.pipelines.bucket import ledger_of, run_alone
from m2hf.pipelines.trial import TrialRequest
from m2hf.pipelines.worker_error import WorkerError


def main() -> None:
    """Try every item of the request alone."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)  # what libraries print is no answer
        request = TrialRequest.parse(sys.stdin.readline())
        threading.Thread(target=_end_with_parent, daemon=True).start()
        try:
            print(ledger_of(request.spec).path.name, file=answers, flush=True)
            for item in request.items:
                run_alone(request.spec, request.task, item)
            outcome = WorkerError("", "")
        except Exception as error:  # noqa: BLE001 - sent as text and raised again in the parent
            outcome = WorkerError.of(error)
        print(json.dumps(asdict(outcome)), file=answers)


def _end_with_parent() -> None:
    os.read(0, 1)  # nothing more comes but the end
    os._exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
