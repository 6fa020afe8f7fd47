"""A page to play with trained autoencoders: one HTML file, without a server and without a network.

`layers` writes networks as lists that the page's JavaScript runs, `page` puts everything into one
file. networks.js runs the layers, inference.js has the densities and the sampling, plots.js paints,
trust.js and views.js answer to the controls.
"""
