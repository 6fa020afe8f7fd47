"""Judges that know nothing of the autoencoder: a classifier, and nearest neighbours of pixels."""

from collections.abc import Callable

import numpy as np
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn
from torch.nn import functional
from tqdm.auto import tqdm

from pyro_vae.analysis.interventions import shift
from pyro_vae.data.dataset import Dataset
from pyro_vae.data.images import check_images
from pyro_vae.errors import InputError, check_counts, check_number, checked
from pyro_vae.networks.checks import check_pixels
from pyro_vae.programs import in_evaluation_mode
from pyro_vae.seeds import seeded


class Classifier(nn.Module):
    """A convolutional network from images `(B, 1, 28, 28)` to logits of the classes, `(B, C)`."""

    def __init__(self, num_classes: int = 10):
        super().__init__()
        self.f = nn.Sequential(
            nn.Conv2d(1, 24, 5),  # (B, 24, 24, 24)
            nn.BatchNorm2d(24),
            nn.ReLU(),
            nn.MaxPool2d(2),  # (B, 24, 12, 12)
            nn.Conv2d(24, 48, 5),  # (B, 48, 8, 8)
            nn.BatchNorm2d(48),
            nn.ReLU(),
            nn.MaxPool2d(2),  # (B, 48, 4, 4)
            nn.Flatten(1),  # (B, 768)
            nn.Linear(768, 64),
            nn.ReLU(),
            nn.Linear(64, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of the classes, `(B, C)`."""
        return self.f(x)


@checked
def train_classifier(
    data: Dataset,
    *,
    epochs: int = 5,
    batch_size: int = 100,
    learning_rate: float = 2e-3,
    seed: int = 0,
    progress: bool = True,
) -> Classifier:
    """Train a classifier on the training images, each batch shifted by up to two pixels each way.

    The learning rate falls to zero on a cosine. The test images are not used.
    """
    check_counts(epochs=epochs, batch_size=batch_size)
    check_number("learning_rate", learning_rate, 1e-9, 1e3)
    with seeded(seed, data.train_images):
        classifier = Classifier(len(data.classes)).to(data.train_images)
    rng = torch.Generator().manual_seed(seed)
    images, labels = data.train_images, data.train_labels
    optimiser = torch.optim.Adam(classifier.parameters(), lr=learning_rate)
    steps = epochs * -(-len(images) // batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    with tqdm(total=steps, unit="step", desc="classifier", disable=not progress) as bar:
        for _ in range(epochs):
            for batch in torch.randperm(len(images), generator=rng, device="cpu").split(batch_size):
                down, right = torch.randint(-2, 3, (2,), generator=rng, device="cpu").tolist()
                logits = classifier(shift(images[batch], down, right))
                loss = functional.cross_entropy(logits, labels[batch])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
                bar.update()
    return classifier.eval()


@checked
@in_evaluation_mode
@torch.no_grad()
def class_probabilities(classifier: Classifier, x: Tensor) -> np.ndarray:
    """Return the probability of each class, `(B, C)`, for images `(B, 1, 28, 28)`."""
    check_images(x)
    check_pixels(x, classifier.f[0].weight)
    return torch.cat([classifier(part).softmax(1) for part in x.split(1000)]).cpu().double().numpy()


@checked
@in_evaluation_mode
@torch.no_grad()
def class_features(classifier: Classifier, x: Tensor) -> np.ndarray:
    """Return the activations before the last layer, `(B, 64)`, for images `(B, 1, 28, 28)`."""
    check_images(x)
    check_pixels(x, classifier.f[0].weight)
    return torch.cat([classifier.f[:-1](part) for part in x.split(1000)]).cpu().double().numpy()


Judge = Callable[[Tensor], np.ndarray]


@checked
def knn_judge(data: Dataset, neighbours: int = 5, references: int = 20_000) -> tuple[Judge, float]:
    """Return a function from images `(*, 1, 28, 28)` to labels `(*,)`, and its test accuracy.

    The function takes the vote of the `neighbours` nearest of the first `references` training
    images, in pixel space. It is independent of the autoencoder whose images it classifies.
    """
    check_counts(neighbours=neighbours, references=references)
    if neighbours > min(references, len(data.train_images)):
        raise InputError(f"neighbours must be at most the number of references, not {neighbours}")
    knn = KNeighborsClassifier(n_neighbors=neighbours, algorithm="brute")
    knn.fit(data.train_images[:references].flatten(1).numpy(), data.train_labels[:references])

    def classify(images: Tensor) -> np.ndarray:
        flat = images.detach().cpu().reshape(-1, 28 * 28)
        return knn.predict(flat.numpy()).reshape(images.shape[:-3])

    accuracy = (classify(data.test_images) == data.test_labels.numpy()).mean()
    return classify, float(accuracy)
