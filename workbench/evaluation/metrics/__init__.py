"""Distances between sets of pictures, with everything that a number depends on written beside it."""
