"""How did the training go?"""

from matplotlib.figure import Figure

from pyro_vae.analysis.plots import COLOURS


def figure(history: list[dict]) -> Figure:
    """Plot the ELBO of training and test images, epoch by epoch."""
    figure = Figure(figsize=(6, 3.6))
    figure.set_layout_engine("constrained")
    ax = figure.subplots()
    # the first epoch is so far below that the others would look the same
    later = history[1:] if len(history) > 2 else history
    epochs = [record["epoch"] for record in later]
    for key, label, colour in (
        ("train_elbo", "training images, as the weights move", COLOURS["guide"]),
        ("test_elbo", "test images, after the epoch", COLOURS["posterior"]),
    ):
        ax.plot(epochs, [record[key] for record in later], "o-", ms=4, color=colour, label=label)
    ax.set(xlabel="epoch", ylabel="ELBO, nats per image", title="Training, after its first epoch")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend()
    return figure
