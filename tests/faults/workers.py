"""Processes to be killed: forked from one that has imported torch, so that a hundred of them take seconds."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]


class Ended(NamedTuple):
    """How a worker ended: its exit code, or minus the signal that killed it; its standard error; its seconds."""

    code: int
    said: str
    seconds: float


class Workers:
    """Runs jobs (`tests.faults.jobs`), each in a fresh fork; used as a context."""

    def __enter__(self) -> "Workers":
        path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
        env = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        words = [sys.executable, "-m", "tests.faults.workers"]
        self.parent = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=env
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self.parent.stdin is not None
        self.parent.stdin.close()
        self.parent.wait()
        assert self.parent.stdout is not None
        self.parent.stdout.close()

    def run(
        self,
        job: str,
        *,
        signals: tuple[tuple[float, int], ...] = (),
        since: str = "",
        limit_s: float = 60.0,
        **given: Any,
    ) -> Ended:
        """Run a job to its end. Who takes longer than limit_s hangs.

        `signals` are (seconds, number), from when there is a file `since`, or from the start.
        """
        assert self.parent.stdin is not None
        assert self.parent.stdout is not None
        order = {"job": job, "signals": signals, "since": since, "limit_s": limit_s, "given": given}
        self.parent.stdin.write(json.dumps(order) + "\n")
        self.parent.stdin.flush()
        return Ended(*json.loads(self.parent.stdout.readline()))


def serve() -> None:
    """Fork a worker for each order on standard input, and say how it ended."""
    import torch

    from tests.faults.jobs import JOBS, warm_up

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    warm_up()
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        order = json.loads(line)
        with tempfile.TemporaryFile() as said:
            start = time.monotonic()
            worker = os.fork()
            if worker == 0:
                _work(JOBS[order["job"]], order["given"], said.fileno())
            code = _await(worker, start, order["signals"], order["since"], order["limit_s"])
            seconds = time.monotonic() - start
            said.seek(0)
            print(json.dumps([code, said.read().decode("utf-8", "replace"), seconds]), file=out, flush=True)


def _work(job: Any, given: dict[str, Any], said: int) -> None:
    """What a fork does: it ends here, whatever happens."""
    code = 1
    try:
        os.dup2(said, 2)
        os.dup2(said, 1)
        code = int(job(**given) or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _await(worker: int, start: float, signals: list[tuple[float, int]], since: str, limit_s: float) -> int:
    waiting = sorted((float(after), number) for after, number in signals)
    begun = start if not since else None
    while True:
        ended, status = os.waitpid(worker, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        now = time.monotonic()
        if begun is None and Path(since).exists():
            begun = now
        while waiting and begun is not None and waiting[0][0] <= now - begun:
            os.kill(worker, waiting.pop(0)[1])
        if now - start > limit_s:
            os.kill(worker, signal.SIGKILL)
            os.waitpid(worker, 0)
            return 124
        time.sleep(0.001)


if __name__ == "__main__":
    serve()
