"""Variational autoencoders as probabilistic programs in Pyro.

Data flows one way: data -> networks -> models and guides -> training -> importance sampling
and other evaluation -> the scripts in experiments/ -> results/.
"""

__version__ = "0.1.0"
