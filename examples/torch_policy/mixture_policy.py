"""A mixture of Gaussians in PyTorch, as an example of a policy to be served.

A network predicts the weights, means and deviations of the modes, as in
robomimic's BC-GMM (Mandlekar et al., 2021, arXiv:2108.03298).
"""

import math

import torch
from torch import nn

_NUM_MODES = 5
_WIDTHS = (256, 256, 256)
_MIN_DEVIATION = 0.05  # In units of actions in [-1, 1].


class MixturePolicy(nn.Module):
  """Draws single actions; see the module."""

  def __init__(self, states: torch.Tensor, action_size: int):
    """Initializes the weights, and the statistics of a dataset.

    Args:
      states: `[R, S]`.
      action_size: A.
    """
    super().__init__()
    deviation = states.std(0)
    self.register_buffer('mean', states.mean(0))
    self.register_buffer(
        'deviation', torch.where(deviation < 1e-6, 1.0, deviation)
    )
    self._action_size = action_size
    sizes, layers = (states.shape[1], *_WIDTHS), []
    for size, width in zip(sizes, sizes[1:]):
      layers += [nn.Linear(size, width), nn.GELU()]
    layers.append(nn.Linear(sizes[-1], _NUM_MODES * (1 + 2 * action_size)))
    self.network = nn.Sequential(*layers)

  def sample(
      self, state: torch.Tensor, temperature: float = 1.0
  ) -> torch.Tensor:
    """Draws an action `[R, 1, A]` for each state `[R, S]`.

    Args:
      state: States.
      temperature: Scales the noise; 0 gives the mean of the likeliest mode.
    """
    logits, means, deviations = self._modes(state)
    # The largest of logits with Gumbel noise is a draw of the modes.
    uniform = torch.rand_like(logits).clamp_min(1e-20)  # Or 0 * inf follows.
    gumbel = -torch.log(-torch.log(uniform))
    mode = torch.argmax(logits + temperature * gumbel, dim=-1)
    rows = torch.arange(len(state), device=state.device)
    mean, deviation = means[rows, mode], deviations[rows, mode]
    action = mean + temperature * deviation * torch.randn_like(mean)
    return action.clip(-1.0, 1.0)[:, None]

  def loss(self, state: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
    """Returns the negative log-likelihoods `[R, 1]` of actions `[R, 1, A]`."""
    logits, means, deviations = self._modes(state)
    error = (actions - means) / deviations
    density = -0.5 * error**2 - torch.log(deviations * math.sqrt(2 * math.pi))
    weights = torch.log_softmax(logits, dim=-1)
    return -torch.logsumexp(weights + density.sum(-1), dim=-1, keepdim=True)

  def _modes(self, state):
    """Returns logits `[R, M]`, means and deviations `[R, M, A]`."""
    out = self.network((state - self.mean) / self.deviation)
    logits, means, deviations = torch.split(
        out, [_NUM_MODES] + 2 * [_NUM_MODES * self._action_size], dim=-1
    )
    shape = (len(state), _NUM_MODES, self._action_size)
    deviations = nn.functional.softplus(deviations) + _MIN_DEVIATION
    return logits, torch.tanh(means).view(shape), deviations.view(shape)
