"""Question (d): style and digit apart, X = f(Z, y)."""

SEED = 5  # of every draw of this question; the trainings have --seed
DRAWS = 16  # of the guide, where the mean or the variance of an image's style is estimated
DIM, EPOCHS, SCHEDULE = 10, 40, "cosine"  # of its autoencoder, unless asked otherwise
