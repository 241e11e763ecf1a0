"""Measuring pictures: a judge of Shepherd World, Fréchet distances on its features, faithfulness, recorded
figures.
"""
