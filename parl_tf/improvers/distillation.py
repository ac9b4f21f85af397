"""PA-RL's policy improvement: distillation of the optimized actions."""

from typing import Optional

import gin
import tensorflow as tf

from parl_tf import replicas
from parl_tf import types
from parl_tf.improvers import improver

_SELECTIONS = ('sample', 'argmax', 'auto')


@gin.configurable
class DistillationImprover(improver.PolicyImprover):
  """Applies the policy's supervised loss to actions of pi_opt (4.3), (4.4).

  Implements section 4.3 of arXiv:2412.06685. No gradient flows from the critic.
  """

  def __init__(
      self,
      selection: str = 'sample',
      spread_threshold: Optional[float] = None,
      spread_rate: float = 0.01,
  ):
    """Initializes the improver.

    Args:
      selection: 'sample' from pi_opt, 'argmax', or 'auto': argmax in rows whose
        candidate values have a small spread, and a sample in all others. (The
        paper chooses once for a task.)
      spread_threshold: For 'auto', the fraction of the running mean spread
        below which a row's spread is small. Required with 'auto'.
      spread_rate: Step size of the running mean at every update.

    Raises:
      ValueError: If an option is unknown, a number is out of range, or
        `spread_threshold` is given without 'auto' or missing with it.
    """
    super().__init__()
    if selection not in _SELECTIONS:
      raise ValueError(
          f'`selection` must be one of {_SELECTIONS}, got {selection!r}.'
      )
    if (selection == 'auto') != (spread_threshold is not None):
      raise ValueError(
          "`spread_threshold` must be given with selection 'auto' and only "
          f'then, got {selection!r} and {spread_threshold}.'
      )
    if not 0.0 < spread_rate <= 1.0:
      raise ValueError(f'`spread_rate` must be in (0, 1], got {spread_rate}.')
    self._selection = selection
    self._threshold = spread_threshold
    self._rate = spread_rate
    # Negative until the first update initializes it.
    self._mean_spread = tf.Variable(
        -1.0, trainable=False, aggregation=tf.VariableAggregation.MEAN
    )

  def loss(self, transition, policy, critic, source, seed):
    del critic  # The source searches.
    observation = transition.time_step.observation
    dataset_action = self._whole(transition, source)
    candidates = source.here.candidates(dataset_action)
    spread = tf.reduce_max(candidates.values, axis=-1) - tf.reduce_min(
        candidates.values, axis=-1
    )
    greedy = self._selection == 'argmax'
    if self._selection == 'auto':
      mean = tf.where(
          self._mean_spread < 0.0,
          replicas.mean(tf.reduce_mean(spread)),
          self._mean_spread,
      )
      greedy = spread < self._threshold * mean
    action = source.here.select(candidates, greedy, 'distillation')
    # The imitated action is constant.
    action = tf.stop_gradient(action)
    per_example = policy.distillation_loss(observation, action, seed)
    base = source.here.base()
    step = tf.reduce_sum(
        tf.abs(candidates.actions[:, :1] - base), axis=-1
    )
    deviation = tf.math.reduce_std(base, axis=1)  # Falls if the policy narrows.
    metrics = {
        'losses/distillation': tf.reduce_mean(per_example),
        'candidates/spread': tf.reduce_mean(spread),
        'candidates/best_value': tf.reduce_mean(candidates.values[:, 0]),
        'candidates/local_step': tf.reduce_mean(tf.reduce_min(step, axis=-1)),
        'candidates/greedy': tf.reduce_mean(tf.cast(greedy, tf.float32)),
        'candidates/deviation': tf.reduce_mean(deviation),
    }
    return types.ImproverLoss(per_example, metrics)

  def _whole(self, transition, source):
    """Returns the dataset actions `[B, A]`; a sample fills masked elements."""
    action = transition.action_step.action
    mask = improver.action_mask(transition)
    if mask is None:
      return action
    return tf.where(mask > 0.0, action, source.here.base()[:, 0])

  def update(self, metrics):
    spread = metrics['candidates/spread']
    moved = self._mean_spread + self._rate * (spread - self._mean_spread)
    self._mean_spread.assign(tf.where(self._mean_spread < 0.0, spread, moved))
