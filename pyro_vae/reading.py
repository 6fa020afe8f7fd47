"""What digit an image is read as, by an independent reader: nearest neighbours in pixel space."""

from collections.abc import Callable

import numpy as np
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from pyro_vae.data import Dataset
from pyro_vae.errors import InputError, check_counts, checked

Reader = Callable[[Tensor], np.ndarray]


@checked
def nearest_neighbour_reader(
    data: Dataset, neighbours: int = 5, references: int = 20_000
) -> tuple[Reader, float]:
    """A reader of images `(*, 1, 28, 28)` to labels `(*,)`, and its accuracy on the test images.

    It votes among the nearest of the first `references` training images, and knows nothing of the
    autoencoder, so that what it reads in a reconstruction is evidence of its own.
    """
    check_counts(neighbours=neighbours, references=references)
    if neighbours > min(references, len(data.train_images)):
        raise InputError(f"neighbours must be at most the number of references, not {neighbours}")
    knn = KNeighborsClassifier(n_neighbors=neighbours, algorithm="brute")
    knn.fit(data.train_images[:references].flatten(1).numpy(), data.train_labels[:references])

    def read(images: Tensor) -> np.ndarray:
        flat = images.detach().cpu().reshape(-1, 28 * 28)
        return knn.predict(flat.numpy()).reshape(images.shape[:-3])

    accuracy = (read(data.test_images) == data.test_labels.numpy()).mean()
    return read, float(accuracy)
