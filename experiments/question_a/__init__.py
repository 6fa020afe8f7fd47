"""Question (a); see `__main__` for its investigations."""

SEED = 1  # of everything drawn for the figures; the training has its own
