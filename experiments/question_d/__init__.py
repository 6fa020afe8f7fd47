"""Question (d): style and digit apart, X = f(Z, y)."""

SEED = 5  # of everything drawn here; the training has its own
DRAWS = 16  # of the guide, where the mean and the spread of a style are wanted
