"""Settings of hot_path.py, and the arithmetic they require."""

import copy
from typing import List, NamedTuple

from dm_env import specs
import gin
import numpy as np
import tensorflow as tf


class Setting(NamedTuple):
  """Sizes of states and batches, gin files and bindings of the networks."""

  observation_size: int
  action_size: int
  batch_size: int
  gin_files: List[str]
  gin_bindings: List[str]


_ACTING = ('acting', 'evaluation')

SETTINGS = {
    'antmaze': Setting(
        29,
        8,
        256,
        ['methods/parl_cal_ql.gin', 'policies/diffusion.gin'],
        ['CriticEnsemble.hidden_sizes = (256, 256, 256, 256)'],
    ),
    'pointmaze': Setting(
        4,
        2,
        128,
        ['quickstart.gin'],
        # Acting climbs, too, as in the other settings.
        [f'{x}/Search.local_optimization = True' for x in _ACTING],
    ),
    'small_robot': Setting(
        28,
        5,
        128,
        [
            'methods/parl_cal_ql.gin',
            'policies/diffusion.gin',
            'sizes/small_robot.gin',
        ],
        [],
    ),
}


def use_two_threads() -> None:
  """Makes results comparable between machines with more cores.

  An operation has one thread, as in the programs (`cpu_threads.py`).
  """
  tf.config.threading.set_intra_op_parallelism_threads(1)
  tf.config.threading.set_inter_op_parallelism_threads(2)


class SpecsOnly:
  """The part of a `Domain` that building an agent needs."""

  def __init__(self, setting: Setting):
    one = np.ones([setting.action_size], np.float32)
    self.raw_action_bounds = -one, one
    self._observation = specs.Array(
        [setting.observation_size], np.float32, 'state'
    )
    self._action = specs.BoundedArray(
        [setting.action_size], np.float32, -1.0, 1.0
    )

  def observation_spec(self):
    return self._observation

  def action_spec(self):
    return self._action

  def value_range(self, gamma):
    return -1.0 / (1.0 - gamma), 0.0


class Counts:
  """GFLOP of the matrix products, counting a multiply-add as two."""

  def __init__(self, setting: Setting):
    """Reads the networks' sizes from gin."""
    query = bound
    self._b = setting.batch_size
    self._n = query('Search.num_samples')
    self._k = query('ActionOptimizer.num_candidates')
    self._t = query('ActionOptimizer.num_gradient_steps')
    self._e = query('CriticEnsemble.num_members')
    self._random = query('CalQLCritic.num_conservative_actions')
    self._optimizes_targets = query('Search.optimize_targets')
    backup = parameter('TDCritic.num_backup_actions', 1)
    # What the search ranks, or what the loss reads of the policy's samples.
    self._drawn = (
        self._n if self._optimizes_targets else max(backup, self._random)
    )
    hidden = list(query('CriticEnsemble.hidden_sizes'))
    sizes = [setting.action_size, *hidden, query('HLGauss.num_bins')]
    self._action_row = _products(sizes)
    self._state_row = _products([setting.observation_size, hidden[0]])
    width = query('DenoisingNetwork.hidden_size')
    time_size = parameter('DenoisingNetwork.time_size', 128)
    inputs = setting.observation_size + setting.action_size + time_size
    blocks = query('DenoisingNetwork.num_blocks')
    self._policy_row = (
        _products([inputs, width])
        + blocks * _products([width, 4 * width, width])
        + _products([width, setting.action_size])
    )
    self._denoising = query('DiffusionPolicy.num_denoising_steps')

  def search(self, batch_size=None):
    """Counts ranking and T + 1 evaluations, T of them with a gradient."""
    b = batch_size or self._b
    rows = self._n + self._k * (2 * self._t + 1)
    return 1e-9 * b * self._e * (rows * self._action_row + self._state_row)

  def sampling(self, batch_size=None):
    b = batch_size or self._b
    return self._sampling(b, self._n)

  def _sampling(self, batch_size, num_samples):
    rows = batch_size * num_samples
    return 1e-9 * rows * self._denoising * self._policy_row

  def critic_given(self):
    """Counts the searches and the loss, whose backward pass costs double."""
    per_row = self._action_row + self._state_row
    loss = 3 * (self._e + 2 * (self._random + 2)) + 2
    searches = 2 * self.search() if self._optimizes_targets else 0.0
    return searches + 1e-9 * self._b * loss * per_row

  def critic_fresh(self):
    return self.critic_given() + 2 * self._sampling(self._b, self._drawn)

  def distillation(self):
    loss = 3e-9 * self._b * self._policy_row
    return self.sampling() + self.search() + loss


def _products(sizes):
  return 2 * sum(a * b for a, b in zip(sizes[:-1], sizes[1:]))


def bound(name: str):
  """Returns what gin binds to a parameter, also by a macro."""
  # The copy of a reference is its value.
  return copy.deepcopy(gin.query_parameter(name))


def parameter(name: str, default):
  """Returns what gin binds to a parameter, or `default`."""
  try:
    return bound(name)
  except ValueError:
    return default
