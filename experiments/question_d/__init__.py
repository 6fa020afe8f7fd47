"""Question (d): style and digit apart, X = f(Z, y)."""

SEED = 5  # of every draw of this question; the trainings have --seed
DRAWS = 16  # of the guide, where the mean or the variance of an image's style is estimated
# Of its autoencoder, unless asked otherwise.
DIM = 10
TRAINING = {"epochs": 16, "schedule": "one_cycle", "learning_rate": 4e-3}
