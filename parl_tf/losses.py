"""Losses and targets as pure functions of tensors."""

from typing import Callable, Optional, Sequence, Union

import tensorflow as tf


def backup_value(
    values: tf.Tensor, aggregate: Callable[..., tf.Tensor] = tf.reduce_min
) -> tf.Tensor:
  """Reduces the target critic's values to one next value per state.

  Takes the minimum (or another aggregate) over ensemble members, then the
  maximum over the actions of each state (`max_backup` of Cal-QL; a no-op with
  one action).

  Args:
    values: `[M, B, n]` values of `n` next actions under `M` members.
    aggregate: Reduction over members, such as `tf.reduce_mean`.

  Returns:
    `[B]` next value, in units of return.
  """
  tf.debugging.assert_shapes([(values, ('M', 'B', 'n'))])
  values = aggregate(values, axis=0)  # [M, B, n] -> [B, n]
  return tf.reduce_max(values, axis=-1)  # [B, n] -> [B]


def td_target(
    reward: tf.Tensor,
    discount: tf.Tensor,
    next_value: tf.Tensor,
    gamma: float,
) -> tf.Tensor:
  """Computes the one-step target r + gamma * discount * V(s').

  Implements the TD target of Nakamoto et al. (2023), arXiv:2303.05479, and of
  PA-RL, Mark et al. (2024), arXiv:2412.06685, section 3. A terminal step has
  discount 0; a time-out has discount 1 and bootstraps.

  Args:
    reward: `[B]`, scaled reward of the step.
    discount: `[B]`, 0 if the step ended the task.
    next_value: `[B]`, value of the next state.
    gamma: Discount factor in [0, 1].

  Returns:
    `[B]` target, with stopped gradient.
  """
  tf.debugging.assert_shapes(
      [(reward, ('B',)), (discount, ('B',)), (next_value, ('B',))],
      message='`reward`, `discount` and `next_value` must be [B]',
  )
  # The target is held fixed: only the prediction is differentiated.
  return tf.stop_gradient(reward + gamma * discount * next_value)


def expectile_loss(
    difference: tf.Tensor, expectile: Union[float, tf.Tensor]
) -> tf.Tensor:
  """Computes the asymmetric squared loss of IQL.

  Implements L(u) = |expectile - 1(u <= 0)| u^2, the inner term of the value
  loss of Kostrikov et al. (2021), arXiv:2110.06169; equation (3.4) of PA-RL.

  Args:
    difference: `[...]`, Q(s, a) - V(s) in units of return.
    expectile: Level in (0, 1); 0.5 is half the squared error. A tensor is not
      checked.

  Returns:
    `[...]` loss, elementwise. No reduction is applied.

  Raises:
    ValueError: If `expectile` is not in (0, 1).
  """
  if not tf.is_tensor(expectile) and not 0.0 < expectile < 1.0:
    raise ValueError(f'`expectile` must be in (0, 1), got {expectile}.')
  weight = tf.where(difference > 0, expectile, 1.0 - expectile)
  return weight * tf.square(difference)


def calibrated_values(
    values: tf.Tensor, monte_carlo_return: tf.Tensor
) -> tf.Tensor:
  """Bounds the values of policy actions from below by the dataset's return.

  Implements max(Q(s, a), V^mu(s)) of Nakamoto et al. (2023), arXiv:2303.05479;
  PA-RL, equation (3.3).

  Args:
    values: `[E, B, n]` values of policy actions.
    monte_carlo_return: `[B]` discounted return-to-go in the dataset.

  Returns:
    `[E, B, n]` values, none below the return.
  """
  tf.debugging.assert_shapes(
      [(values, ('E', 'B', 'n')), (monte_carlo_return, ('B',))]
  )
  return tf.maximum(values, monte_carlo_return[tf.newaxis, :, tf.newaxis])


def conservative_penalty(
    random_values: tf.Tensor,
    next_values: Optional[tf.Tensor],
    current_values: Optional[tf.Tensor],
    data_values: tf.Tensor,
    temperature: float = 1.0,
    log_densities: Optional[Sequence[Optional[tf.Tensor]]] = None,
) -> tf.Tensor:
  """Computes temp * logsumexp_j(z_j / temp) - Q(s, a_data).

  Implements the conservative term of CQL(H), Kumar et al. (2020),
  arXiv:2006.04779, equation (4). The logsumexp runs over uniform actions, the
  policy's actions for s' and the policy's actions for s, all evaluated at s.
  Without densities, the dataset action adds one more column, and
  temp * log(number of columns) is subtracted. With densities, each column is
  importance-weighted by its own density.

  Args:
    random_values: `[E, B, n]` values of uniform actions.
    next_values: `[E, B, m]` values at s of the policy's actions for s'; None or
      no columns to omit the block.
    current_values: `[E, B, m]` values of the policy's actions for s; None or no
      columns to omit the block. Each policy column counts n / m times. To
      calibrate the policy's values, pass both blocks through
      `calibrated_values` first.
    data_values: `[E, B]` values of the dataset actions.
    temperature: Positive temperature of the logsumexp.
    log_densities: None, or `[B, n]`, `[B, m]`, `[B, m]` log densities of the
      random, next and current actions.

  Returns:
    `[E, B]` penalty; the weight alpha is not applied.
  """
  tf.debugging.assert_shapes(
      [(random_values, ('E', 'B', 'n')), (data_values, ('E', 'B'))]
  )
  num_random = tf.shape(random_values)[-1]
  blocks = [random_values, next_values, current_values]
  columns = []
  num_counted = 0
  for i, block in enumerate(blocks):
    if block is None or block.shape[-1] == 0:
      continue
    if log_densities is not None:
      block = block - tf.convert_to_tensor(log_densities[i])[tf.newaxis]
    # In a graph the number of columns may be known only at run time, and may be
    # 0. An empty block adds nothing to the maximum or to the count.
    num_columns = tf.shape(block)[-1]
    repeats = tf.cast(num_random, tf.float32) / tf.cast(
        tf.maximum(num_columns, 1), tf.float32
    )
    columns.append(block + temperature * tf.math.log(repeats))
    num_counted += tf.where(num_columns > 0, num_random, 0)
  if log_densities is None:
    columns.append(data_values[..., tf.newaxis])
    num_counted += 1
    shift = temperature * tf.math.log(tf.cast(num_counted, tf.float32))
  else:
    shift = 0.0
  z = tf.concat(columns, axis=-1)
  maximum = temperature * tf.reduce_logsumexp(z / temperature, axis=-1)
  return maximum - shift - data_values


def one_step_distillation(
    action: tf.Tensor, flow_action: tf.Tensor
) -> tf.Tensor:
  """Computes the mean squared distance of two actions of the same noise.

  Implements the distillation term of FQL, Park et al. (2025),
  arXiv:2502.02538: |mu(s, z) - flow(s, z)|^2, where the flow is held fixed.

  Note:
    The paper writes the squared norm. The mean over dimensions belongs to its
    published weights alpha, which come from a program that takes the mean.

  Args:
    action: `[B, A]`, mu(s, z), the one-step policy's actions before clipping.
    flow_action: `[B, A]`, actions of the flow policy from the same noise.

  Returns:
    `[B]` per-example loss.
  """
  tf.debugging.assert_shapes(
      [(action, ('B', 'A')), (flow_action, ('B', 'A'))]
  )
  # The one-step policy follows the flow, never the reverse.
  error = action - tf.stop_gradient(flow_action)
  return tf.reduce_mean(tf.square(error), axis=-1)


def generalized_advantage(
    reward: tf.Tensor,
    discount: tf.Tensor,
    value: tf.Tensor,
    next_value: tf.Tensor,
    is_last: tf.Tensor,
    gamma: float,
    gae_lambda: float,
) -> tf.Tensor:
  """Computes generalized advantage estimates of T consecutive decisions.

  A_t = delta_t + gamma * discount_t * lambda * A_{t+1}, with
  delta_t = r_t + gamma * discount_t * V(s'_t) - V(s_t); Schulman et al. (2016),
  arXiv:1506.02438, equation (16). A terminal step has discount 0. A time-out
  has discount 1 and bootstraps from its final state, but the sum does not
  continue into the next episode.

  Args:
    reward: `[T, B]`, scaled reward of each decision.
    discount: `[T, B]`, 0 if the decision ended the task.
    value: `[T, B]`, V(s_t), where s_t is the state before the decision.
    next_value: `[T, B]`, V(s'_t), where s'_t is the state after the decision,
      before any reset.
    is_last: `[T, B]` bool, whether the sum stops: True at the end of an episode
      and in the last row.
    gamma: Discount factor in [0, 1].
    gae_lambda: lambda in [0, 1]; 0 gives the one-step error, 1 the return.

  Returns:
    `[T, B]` advantages in units of return, with stopped gradient.
  """
  tf.debugging.assert_shapes([
      (reward, ('T', 'B')),
      (discount, ('T', 'B')),
      (value, ('T', 'B')),
      (next_value, ('T', 'B')),
      (is_last, ('T', 'B')),
  ])
  delta = reward + gamma * discount * next_value - value
  factor = gamma * gae_lambda * tf.where(is_last, 0.0, discount)
  advantage = tf.scan(
      lambda later, now: now[0] + now[1] * later,
      (delta, factor),
      initializer=tf.zeros_like(delta[0]),
      reverse=True,
  )
  # The estimate is a constant target for the policy and the value function.
  return tf.stop_gradient(advantage)


def soft_policy_loss(
    value: tf.Tensor,
    log_prob: tf.Tensor,
    log_temperature: tf.Tensor,
    target_entropy: float,
) -> tf.Tensor:
  """Computes SAC's loss of the policy, plus that of its temperature.

  alpha log pi(a | s) - Q(s, a) - log alpha (log pi(a | s) + target entropy),
  where the first term is constant in alpha and the last one in the policy;
  Haarnoja et al. (2018), arXiv:1812.05905, equations (7) and (18), the latter
  in the log of the temperature.

  Args:
    value: `[B]`, Q of the policy's differentiable action.
    log_prob: `[B]` log density of the action.
    log_temperature: Scalar, log alpha.
    target_entropy: Entropy in nats that the temperature maintains.

  Returns:
    `[B]` per-example loss.
  """
  tf.debugging.assert_shapes(
      [(value, ('B',)), (log_prob, ('B',)), (log_temperature, ())]
  )
  temperature = tf.stop_gradient(tf.exp(log_temperature))
  # An entropy below the target makes the gap positive, which raises the
  # temperature: the gradient with respect to its log is minus the gap.
  gap = tf.stop_gradient(log_prob + target_entropy)
  return temperature * log_prob - value - log_temperature * gap


def clipped_surrogate(
    log_ratio: tf.Tensor, advantage: tf.Tensor, clip_ratio: tf.Tensor
) -> tf.Tensor:
  """Computes -min(ratio A, clip(ratio, 1 - epsilon, 1 + epsilon) A).

  Implements the negated objective of Schulman et al. (2017), arXiv:1707.06347,
  equation (7).

  Args:
    log_ratio: `[B]`, log(pi_new(a | s) / pi_old(a | s)) of the actions taken.
    advantage: `[B]`, constant.
    clip_ratio: `[B]`, epsilon, positive.

  Returns:
    `[B]` per-example loss.
  """
  tf.debugging.assert_shapes(
      [(log_ratio, ('B',)), (advantage, ('B',)), (clip_ratio, ('B',))]
  )
  ratio = tf.exp(log_ratio)
  clipped = tf.clip_by_value(ratio, 1.0 - clip_ratio, 1.0 + clip_ratio)
  return -tf.minimum(ratio * advantage, clipped * advantage)
