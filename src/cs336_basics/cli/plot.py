"""The loss curve of a run as a picture."""

from cs336_basics.files import whole_file
from cs336_basics.train.run import RunFolder
from cs336_basics.train.tracker import read_metrics


def plot_loss(run: RunFolder) -> bool:
    """Draw training and validation loss against step and against wall-clock into the run's loss.png.

    Returns whether it was drawn: without matplotlib (extra `plot`) it is not.
    """
    try:
        import matplotlib as mpl
    except ImportError:
        return False
    mpl.use("agg")
    from matplotlib import pyplot as plt

    records = list(read_metrics(run.metrics))
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    for axis, key, label in zip(axes, ("step", "wall_s"), ("updates", "seconds"), strict=True):
        for name, style in (("train_loss", "-"), ("valid_loss", "o-")):
            points = [(r[key], r[name]) for r in records if r.get(key) is not None and r.get(name) is not None]
            axis.plot([x for x, _ in points], [y for _, y in points], style, label=name.replace("_", " "), ms=4, lw=1.2)
        axis.set_xlabel(label)
        axis.grid(visible=True, alpha=0.3)
    axes[0].set_ylabel("loss (nats per token)")
    axes[0].legend()
    figure.suptitle(str(run.path.name))
    with whole_file(run.plot) as file:
        figure.savefig(file, dpi=120, format="png")
    plt.close(figure)
    return True
