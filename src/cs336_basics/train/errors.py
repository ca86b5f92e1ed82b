"""What may go wrong in training, by name."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, or fitted to the model: names the file and the mend."""


class DamagedError(CheckpointError):
    """A checkpoint whose bytes are not those that were written: an earlier one may serve."""


class SaveError(CheckpointError):
    """A checkpoint that cannot be written: names the file and what the system says."""


class TrainingWarning(UserWarning):
    """Something beside training went wrong, and the run goes on."""


class CheckpointWarning(TrainingWarning):
    """A checkpoint was passed over or not written, and the run goes on without it."""


class MetricsError(ValueError):
    """A metrics file with a line that is no record: names the file, the line and the mend."""


class TrainingError(RuntimeError):
    """Training cannot go on: names the step and what to change."""


class StoppedError(KeyboardInterrupt):
    """A signal asked training to stop, and it did: a step was finished and saved. No Exception, as Ctrl-C is none."""

    def __init__(self, signum: int, step: int) -> None:
        super().__init__(f"step {step} is finished and saved")
        self.signum, self.step = signum, step
