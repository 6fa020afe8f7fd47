"""Question (b): log p(x) of an image, and what makes one likely."""

SEED = 2  # of everything drawn for this question; the training has its own
