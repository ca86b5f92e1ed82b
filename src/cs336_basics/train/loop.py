"""The training loop: batches in, updates, metrics and checkpoints out; resumed bit for bit on a CPU."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch.optim import Optimizer

from cs336_basics.accounting import flops, mfu
from cs336_basics.config import ConfigError, RunConfig
from cs336_basics.data.batches import batch_at
from cs336_basics.nn import TransformerLM
from cs336_basics.train.about import about_run, require_same_run, set_random_state
from cs336_basics.train.checkpoint import restore, snapshot
from cs336_basics.train.device import DTYPES, fastest_dtype, measure_peak_flops, synchronize
from cs336_basics.train.engine import build_losses, build_update, matmul_precision
from cs336_basics.train.errors import StoppedError
from cs336_basics.train.evaluate import mean_loss
from cs336_basics.train.keep import read_newest
from cs336_basics.train.numbers import Batch, Divergence, diagnose, is_finite, require_finite
from cs336_basics.train.optimizer import learning_rate
from cs336_basics.train.prefetch import one_ahead
from cs336_basics.train.run import RunFolder
from cs336_basics.train.saver import saving
from cs336_basics.train.step import StepResult, precision, train_step
from cs336_basics.train.trace import traced
from cs336_basics.train.tracker import JsonlTracker, Tracker, read_metrics

Progress = Callable[[int, dict[str, float]], object]


def train(
    model: TransformerLM,
    config: RunConfig,
    train_tokens: np.ndarray,
    valid_tokens: np.ndarray,
    *,
    run: RunFolder,
    device: torch.device,
    resume: bool = False,
    may_change: frozenset[str] = frozenset(),
    stop_asked: Callable[[], int] = lambda: 0,
    trackers: tuple[Tracker, ...] = (),
    progress: Progress | None = None,
    profile: range = range(0),
) -> dict[str, float]:
    """Train the model in place for config.train.steps updates, and return the last metrics.

    The batch of a step is a function of (seed, step), and so is its rate: a run resumed from its newest
    checkpoint goes on as if it had never stopped, bit for bit on a CPU. `run` is a folder that `RunFolder.create`
    made. Each record of metrics goes to its metrics.jsonl, to `trackers` and to `progress`. Once `stop_asked` gives
    the number of a signal (`stopping.StopAsked`), the step is finished and saved, and StoppedError raised. `may_change`
    names fields of the config that may differ from the checkpoint's although they bend the curve. Of each step in
    `profile` (the first is 1) a trace is written into the run folder.

    Raises: CheckpointError where there is nothing to resume from; ConfigError where there is and `resume` is not
        asked for, where another trains in the folder, and for a changed field; TrainingError for a loss that is no
        number (on a CPU before the update, elsewhere where metrics are written, since to look is to wait); SaveError
        where the disk fails; DataError for tokens shorter than the context.
    """
    settings = config.train
    with saving(run, settings) as saver, matmul_precision(settings), ExitStack() as stack:
        if not resume and run.saved_checkpoints():
            raise ConfigError(f"train: run must hold no checkpoint unless resume=True, got {run.path}")
        optimizer = build_update(model, config)
        start = _go_on(model, optimizer, config, run=run, may_change=may_change) if resume else 0
        saver.attempt(lambda: run.save_config(config))  # not before it is known to fit
        loss, plain_loss = build_losses(model, settings)
        autocast = DTYPES[fastest_dtype(device) if settings.dtype == "auto" else settings.dtype]
        context = config.model.context_length
        jsonl = JsonlTracker(run.metrics, start_step=start)
        peak = settings.peak_flops or measure_peak_flops(device, autocast)
        clock = _Clock(device, offset_s=jsonl.last.get("wall_s", 0.0))
        meter = _Meter(config, peak)
        last = jsonl.last
        data = run.load_data()
        divergence = Divergence(settings.divergence_patience)
        if start and settings.divergence_patience:
            for line in read_metrics(run.metrics):
                divergence.note(line["step"], line.get("train_loss"))

        def record(step: int, metrics: dict[str, float]) -> None:
            metrics = {"wall_s": round(clock.now(), 4), **metrics}
            last.update(metrics)
            saver.attempt(lambda: jsonl.log(step, metrics))
            for tracker in trackers:
                tracker.log(step, metrics)
            if progress is not None:
                progress(step, metrics)

        def paused(step: int, name: str, started_s: float, **found: float) -> None:
            """What took so long is told under its own name, and is no part of the speed of training."""
            passed = clock.now() - started_s
            meter.pause(passed)
            record(step, {**found, name: round(passed, 4)})

        def evaluate(step: int) -> None:
            started = clock.now()
            value = mean_loss(
                plain_loss,
                valid_tokens,
                batches=settings.eval_batches,
                batch_size=settings.batch_size,
                context_length=context,
                device=device,
                autocast=autocast,
            )
            paused(step, "eval_s", started, valid_loss=value)

        def batch_of(step: int) -> Batch:
            return batch_at(
                train_tokens,
                seed=settings.seed,
                step=step,
                batch_size=settings.batch_size,
                context_length=context,
                device=device,
                replacement=settings.sampling == "random",
            )

        if start == 0:
            evaluate(0)
        steps = range(start, settings.steps)
        batches = stack.enter_context(closing(one_ahead(batch_of, steps)))
        meter.start(clock.now())
        for step in steps:
            with traced(run.trace(step + 1), device) if step + 1 in profile else nullcontext():
                with meter.waiting():
                    batch = next(batches)
                rate = learning_rate(step, config.optimizer, steps=settings.steps)

                def check(result: StepResult, step: int = step, batch: Batch = batch) -> None:
                    # Elsewhere to look is to wait: there it is done where metrics are written.
                    if device.type == "cpu" and not is_finite(result):
                        n_tokens = len(train_tokens)
                        with precision(device, autocast):
                            told = diagnose(
                                model, plain_loss, batch, result, config, step=step, n_tokens=n_tokens, run=run
                            )
                        raise told

                result = train_step(
                    loss,
                    optimizer,
                    batch,
                    lr=rate,
                    max_grad_norm=config.optimizer.max_grad_norm,
                    grad_accumulation=settings.grad_accumulation,
                    autocast=autocast,
                    before_update=check,
                )
            done = step + 1
            # Nothing above waits for the device; a loss is read where it is written down.
            if done % settings.log_every == 0 or done == settings.steps:
                record(done, {**_read(done, result), "lr": rate, **meter.read(done - start, clock.now())})
                divergence.note(done, last["train_loss"])
            if done % settings.eval_every == 0 or done == settings.steps:
                evaluate(done)
            asked = stop_asked()
            if done % settings.save_every == 0 or done == settings.steps or asked:
                started = clock.now()
                _read(done, result)  # never save what has gone wrong since the last line of metrics
                state = snapshot(model, optimizer, done, about=about_run(config, data, step=done))
                saver.save(state, jsonl)
                paused(done, "save_s", started)
            if asked and done < settings.steps:
                saver.finish()
                raise StoppedError(asked, done)
    return last


def _go_on(
    model: TransformerLM, optimizer: Optimizer, config: RunConfig, *, run: RunFolder, may_change: frozenset[str]
) -> int:
    """Take up the newest good checkpoint, and return its number of updates."""
    path, state = read_newest(run)
    require_same_run(state["about"], config, run.load_data(), may_change=may_change)
    start = restore(state, model, optimizer, name=str(path))
    if "random" in state["about"]:
        set_random_state(state["about"]["random"])
    return start


def _read(step: int, result: StepResult) -> dict[str, float]:
    require_finite(step, result)
    loss, grad_norm = result.numbers()
    return {"train_loss": loss, "grad_norm": grad_norm}


class _Clock:
    """Seconds of the run so far, those before a resume included."""

    def __init__(self, device: torch.device, *, offset_s: float) -> None:
        self.device, self.offset_s, self.started = device, offset_s, time.perf_counter()

    def now(self) -> float:
        synchronize(self.device)
        return self.offset_s + time.perf_counter() - self.started


@dataclass
class _Meter:
    """Tokens a second, MFU and the part of time that steps wait for input, all since the last reading; evaluation and
    checkpoints are not counted."""

    config: RunConfig
    peak_flops: float
    since_s: float = 0.0
    since_step: int = 0
    paused_s: float = 0.0
    waited_s: float = 0.0

    def start(self, now_s: float) -> None:
        self.since_s, self.since_step, self.paused_s, self.waited_s = now_s, 0, 0.0, 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time of the block as time that a step waits for its batch."""
        started = time.perf_counter()
        yield
        self.waited_s += time.perf_counter() - started

    def pause(self, seconds: float) -> None:
        self.paused_s += seconds

    def read(self, steps: int, now_s: float) -> dict[str, float]:
        """Rates since the last reading, after `steps` updates of this process."""
        tokens = self.config.train.batch_size * self.config.model.context_length
        passed = now_s - self.since_s - self.paused_s
        rate = tokens * (steps - self.since_step) / passed
        input_part = self.waited_s / passed
        self.start(now_s)
        self.since_step = steps
        flops_per_token = flops(self.config.model).total_flops / self.config.model.context_length
        return {"tokens_per_s": rate, "mfu": mfu(rate, flops_per_token, self.peak_flops), "input_part": input_part}
