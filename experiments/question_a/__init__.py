"""Question (a): train the appendix's autoencoder and look at what it has learnt."""

SEED = 1  # of everything drawn for this question; the training has its own
