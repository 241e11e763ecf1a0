"""Training: losses and steps, the loop around them, and what a run leaves behind (config, history,
checkpoints, grids).
"""
