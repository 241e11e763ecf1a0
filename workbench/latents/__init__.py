"""Walks and edits in the latent space of a trained G: paths, mixing, directions, arithmetic, inversion."""
