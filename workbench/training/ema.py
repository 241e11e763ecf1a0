"""G_ema: the running average of G's weights that every sample, figure and shipped model is made with.

The average is kept in float32 whatever the model computes in.
"""

import copy

import torch
from torch import nn

from workbench.errors import WorkbenchError
from workbench.training.config import TrainConfig


def ema_beta(batch_size: int, cur_nimg: int, halflife_kimg: float, *, ramp_up: float = 0.05) -> float:
    """How much of the old average one step keeps: 0.5 ** (batch_size / h), h images = the half-life.

    h = min(halflife_kimg * 1000, ramp_up * cur_nimg): the average of a young run does not drag its random
    start along (StyleGAN2-ADA's ramp-up). 0 at cur_nimg = 0: the average is then the model itself. ramp_up 0:
    h = halflife_kimg * 1000 from the first step on.
    """
    if halflife_kimg <= 0:
        raise WorkbenchError(f"ema_halflife_kimg is {halflife_kimg}: expected above 0, thousands of images.")
    half_life = halflife_kimg * 1000.0
    if ramp_up > 0:
        half_life = min(half_life, ramp_up * cur_nimg)
    return 0.5 ** (batch_size / half_life) if half_life > 0 else 0.0


def beta_of(config: TrainConfig, cur_nimg: int) -> float:
    """`ema_beta` by the settings of a run."""
    return ema_beta(config.batch_size, cur_nimg, config.ema_halflife_kimg, ramp_up=config.ema_rampup)


class EMA:
    """Average of a model. `model` is the averaged copy, in eval mode, without gradients, float32."""

    def __init__(self, model: nn.Module) -> None:
        self.model = copy.deepcopy(model).float().eval().requires_grad_(False)
        self._pairs(model)  # the structures agree now; later updates rely on it

    @torch.no_grad()
    def update(self, model: nn.Module, beta: float) -> None:
        """average <- beta * average + (1 - beta) * model for parameters.

        Buffers (w_avg among them) are copied.
        """
        averages, values = self._pairs(model)
        if values and values[0].dtype != torch.float32:
            values = [value.float() for value in values]
        torch._foreach_lerp_(averages, values, 1.0 - beta)
        for average, value in zip(self.model.buffers(), model.buffers(), strict=True):
            average.copy_(value)

    def _pairs(self, model: nn.Module) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        averages, values = list(self.model.parameters()), [value.detach() for value in model.parameters()]
        if [tuple(a.shape) for a in averages] != [tuple(v.shape) for v in values]:
            raise WorkbenchError(
                "The model to average has other parameters than the average: build both from one config."
            )
        return averages, values
