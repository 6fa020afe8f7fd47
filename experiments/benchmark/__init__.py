"""Speed, side by side."""

SEED = 6  # of weights and draws
