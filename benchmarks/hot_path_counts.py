"""How much arithmetic the rows of hot_path.py need."""

import gin


class Counts:
  """GFLOP of the matrix products, two a multiplication."""

  def __init__(self, observation_size: int, action_size: int, batch_size: int):
    """Reads the networks' sizes from gin."""
    query = gin.query_parameter
    self._b = batch_size
    self._n = query('Search.num_samples')
    self._k = query('ActionOptimizer.num_candidates')
    self._t = query('ActionOptimizer.num_gradient_steps')
    self._e = query('CriticEnsemble.num_members')
    self._random = query('CalQLCritic.num_conservative_actions')
    hidden = list(query('CriticEnsemble.hidden_sizes'))
    sizes = [action_size, *hidden, query('HLGauss.num_bins')]
    self._action_row = _products(sizes)
    self._state_row = _products([observation_size, hidden[0]])
    width = query('DiffusionPolicy.hidden_size')
    time_size = _parameter('DiffusionPolicy.time_size', 128)
    inputs = observation_size + action_size + time_size
    blocks = query('DiffusionPolicy.num_blocks')
    self._policy_row = (
        _products([inputs, width])
        + blocks * _products([width, 4 * width, width])
        + _products([width, action_size])
    )
    self._denoising = query('DiffusionPolicy.num_denoising_steps')

  def search(self, batch_size=None):
    """Ranking, and T + 1 evaluations of which T have a gradient."""
    b = batch_size or self._b
    rows = self._n + self._k * (2 * self._t + 1)
    return 1e-9 * b * self._e * (rows * self._action_row + self._state_row)

  def sampling(self, batch_size=None):
    b = batch_size or self._b
    return 1e-9 * b * self._n * self._denoising * self._policy_row

  def critic_given(self):
    """Two searches; forward and twice as much back for the loss."""
    per_row = self._action_row + self._state_row
    loss = 3 * (self._e + 2 * (self._random + 2)) + 2
    return 2 * self.search() + 1e-9 * self._b * loss * per_row

  def critic_fresh(self):
    return self.critic_given() + 2 * self.sampling()

  def distillation(self):
    loss = 3e-9 * self._b * self._policy_row
    return self.sampling() + self.search() + loss


def _products(sizes):
  return 2 * sum(a * b for a, b in zip(sizes[:-1], sizes[1:]))


def _parameter(name, default):
  try:
    return gin.query_parameter(name)
  except ValueError:
    return default
