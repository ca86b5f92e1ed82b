"""What may go wrong in training, by name."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be written, read, or fitted to the model: names the file and the mend."""


class MetricsError(ValueError):
    """A metrics file with a line that is no record: names the file, the line and the mend."""


class TrainingError(RuntimeError):
    """Training cannot go on: names the step and what to change."""
