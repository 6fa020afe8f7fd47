"""Guides side by side: what each buys."""

SEED = 3  # of everything drawn for the comparison; the trainings have their own
