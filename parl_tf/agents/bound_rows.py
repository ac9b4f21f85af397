"""The transition and the policy's actions of an update's rows."""

from typing import Optional, Tuple

import tensorflow as tf
from tf_agents.trajectories import trajectory

from parl_tf import types
from parl_tf.agents import image_shift
from parl_tf.search import action_source


class BoundRows:
  """Binds rows to the policy and critic that choose actions at their states.

  Attributes:
    draws_for_critic: Whether `with_samples` can serve the critic's updates:
      whether its loss needs the policy's samples at both states, without
      densities.
  """

  def __init__(
      self, search: action_source.Search, policy, critic, image_padding: int
  ):
    """Initializes the object.

    Args:
      search: Settings of the search.
      policy: `GenerativePolicy` of chunks `[H * A]`.
      critic: `Critic` of chunks `[H * A]`, or None.
      image_padding: Maximum random shift in pixels of the images in losses.

    Raises:
      ValueError: If the padding is negative.
    """
    if image_padding < 0:
      raise ValueError(
          f'`image_padding` must not be negative, got {image_padding}.'
      )
    self._arguments = search, policy, critic
    self._image_padding = image_padding
    # Cached samples have no densities.
    has_densities = policy.has_density and not search.optimize_targets
    self.draws_for_critic = (
        critic is not None and critic.samples_both_states and not has_densities
    )

  def bind(
      self,
      rows: trajectory.Trajectory,
      seed: tf.Tensor,
      tape: Optional[tf.GradientTape],
  ) -> Tuple[trajectory.Transition, action_source.ActionSource]:
    """Returns the transition `[B, ...]` of the losses, and its actions.

    Args:
      rows: `[B, 2, ...]`, with or without cached samples.
      seed: `[2]` int32.
      tape: Tape that must not record the search, or None.
    """
    transition, source = self._source(rows, seed, tape)
    # Losses use shifted images; searches use the original ones.
    return image_shift.shift(transition, seed, self._image_padding), source

  def with_samples(
      self, rows: trajectory.Trajectory, seed: tf.Tensor
  ) -> trajectory.Trajectory:
    """Adds the policy's samples at s and s', unless the rows have cached ones.

    The graph of an update is then the same for drawn and for cached samples.

    Args:
      rows: `[B, 2, ...]`.
      seed: `[2]` int32.
    """
    if 'candidate_actions' in rows.policy_info:
      return rows
    _, source = self._source(rows, seed, None)
    samples = tf.stack([source.here.base(), source.next.base()], axis=1)
    info = dict(rows.policy_info, candidate_actions=samples)
    return rows._replace(policy_info=info)

  def _source(self, rows, seed, tape):
    info = dict(rows.policy_info)
    samples = info.pop('candidate_actions', None)
    rows = rows._replace(policy_info=info)
    transition: types.Nest = tf.nest.map_structure(
        lambda x: tf.squeeze(x, axis=1), trajectory.to_transition(rows)
    )
    source = action_source.make_source(
        *self._arguments, transition, seed, samples=samples, tape=tape
    )
    return transition, source
