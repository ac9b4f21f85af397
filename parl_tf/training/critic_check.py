"""Checks, before any work, that a critic keeps the protocol of `Critic`."""

from typing import Any, Dict, Sequence

import tensorflow as tf
from tf_agents.trajectories import policy_step
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory

from parl_tf import types
from parl_tf.search import state_actions
from parl_tf.training import metric_columns
from parl_tf.training import metrics_log
from parl_tf.training import policy_check

# Unlike the usual sizes of ensembles, so that no axis is taken for another.
_NUM_STATES, _NUM_ACTIONS = 7, 3
_NOT_OF_CRITICS = frozenset(metric_columns.COLUMNS) - metric_columns.OF_CRITICS


def check(agent: Any, *, has_mask: bool = False) -> None:
  """Traces the critic's values and its loss; computes neither.

  Args:
    agent: Agent with a `Critic`.
    has_mask: Whether the run's rows have a mask.

  Raises:
    TypeError: If `bind` or `loss` does not take its arguments, or `loss` does
      not return a `CriticLoss`.
    ValueError: If a result has another dtype or shape, a metric has no valid
      name or one that other parts of a run write, or a call creates variables.
  """
  critic, search = agent.critic, agent.searches.training
  search = search.for_loss(critic.num_policy_actions)
  size = agent.chunk_length * agent.action_spec.shape[0]
  num_samples = search.num_samples
  name = type(critic).__name__

  def trace(transition, samples, seed):
    observation = transition.time_step.observation
    value_fn = policy_check.call(
        f'{name}.bind', 'Critic', critic.bind, observation
    )
    actions = tf.repeat(
        transition.action_step.action[:, tf.newaxis], _NUM_ACTIONS, axis=1
    )
    _check_result(
        f'The function that {name}.bind returns',
        value_fn(actions),
        [_NUM_STATES, _NUM_ACTIONS],
        '[B, N]',
    )
    if agent.generative_policy.has_density and not search.optimize_targets:
      samples = None  # As in training: given samples have no densities.
    source = state_actions.make_source(
        search, agent.generative_policy, critic, transition, seed,
        samples=samples,
    )
    others = policy_check.left_out(critic)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch(others)
      loss = policy_check.call(
          f'{name}.loss', 'Critic', critic.loss, transition, source, seed
      )
    if not isinstance(loss, types.CriticLoss):
      raise TypeError(
          f'{name}.loss must return a `types.CriticLoss`, got a'
          f' {type(loss).__name__}.'
      )
    _check_result(
        f'`per_example` of {name}.loss', loss.per_example, [_NUM_STATES], '[B]'
    )
    policy_check.warn_of_untrained(
        name, others, tape.gradient(loss.per_example, others)
    )
    for key, value in loss.metrics.items():
      metrics_log.check_name(key)
      if key in _NOT_OF_CRITICS:
        raise ValueError(
            f'Metric {key!r} of {name}.loss must have another name, because'
            ' other parts of a run write this column of `metrics.csv`.'
        )
      shape = tf.convert_to_tensor(value).shape
      if shape.rank:
        raise ValueError(
            f'Metric {key!r} of {name}.loss must be a scalar, got shape'
            f' {shape}.'
        )

  with policy_check.creates_no_variables(name, critic):
    # A graph takes no values, so that no assertion sees zeros.
    policy_check.trace(
        f'{name}.loss',
        trace,
        _transition(agent.time_step_spec.observation, size, has_mask),
        _spec([2, num_samples, size]),
        tf.TensorSpec([2], tf.int32),
    )


def _transition(
    observation_spec: types.Nest, size: int, has_mask: bool
) -> trajectory.Transition:
  """Returns the specs of the transitions of a loss."""
  observation = tf.nest.map_structure(
      lambda spec: _spec(spec.shape, spec.dtype), observation_spec
  )
  time_step = ts.TimeStep(
      _spec(dtype=tf.int32), _spec(), _spec(), observation
  )
  info: Dict[str, tf.TensorSpec] = {
      name: _spec(dtype=dtype)
      for name, dtype in types.POLICY_INFO_DTYPES.items()
  }
  if has_mask:
    info['action_mask'] = _spec([size])
  return trajectory.Transition(
      time_step, policy_step.PolicyStep(_spec([size]), (), info), time_step
  )


def _spec(shape: Sequence[int] = (), dtype=tf.float32) -> tf.TensorSpec:
  return tf.TensorSpec([_NUM_STATES, *shape], dtype)


def _check_result(name, result, shape, described):
  result = tf.convert_to_tensor(result)
  if result.dtype != tf.float32 or not result.shape.is_compatible_with(shape):
    raise ValueError(
        f'{name} must be float32 of shape {described}, here {shape}, got'
        f' {result.dtype.name} of shape {result.shape}.'
    )
