"""Question (c): 4 latent dimensions, 20, and PyTorch's example, compared."""

SEED = 4  # of everything drawn for this question; the trainings have their own
