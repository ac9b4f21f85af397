"""A straightforward implementation of PA-RL's hot path, for comparison.

Computes the same values as the library: Cal-QL with HL-Gauss, with a search for
every action of the policy. It shares no computation: each update runs three
searches, evaluates the policy's best action once per random action, and
evaluates one network after another. `hot_path.py` times it, compiled as a
whole. A test compares the library's losses, targets and gradients with it.
"""

from typing import List, NamedTuple, Sequence, Tuple

import tensorflow as tf


class Layer(NamedTuple):
  """Dense -> LayerNorm -> swish."""

  kernel: tf.Tensor
  bias: tf.Tensor
  scale: tf.Tensor
  offset: tf.Tensor


class Member(NamedTuple):
  """One network of the ensemble."""

  hidden: Sequence[Layer]
  head_kernel: tf.Tensor
  head_bias: tf.Tensor


class Settings(NamedTuple):
  """Hyperparameters; `edges` `[bins + 1]` and `sigma` are HL-Gauss's."""

  edges: tf.Tensor
  sigma: float
  num_candidates: int
  num_gradient_steps: int
  step_size: float
  gamma: float
  conservative_weight: float


class Batch(NamedTuple):
  """Transitions `[B, ...]` with features as observations."""

  observation: tf.Tensor
  action: tf.Tensor
  reward: tf.Tensor
  discount: tf.Tensor
  next_observation: tf.Tensor
  monte_carlo_return: tf.Tensor


class Draws(NamedTuple):
  """Random draws of an update: actions `[B, n, A]`, members `[M]`."""

  samples: tf.Tensor
  next_samples: tf.Tensor
  random_actions: tf.Tensor
  target_members: tf.Tensor
  penalty_members: tf.Tensor


def unstack(weights: Sequence[tf.Tensor]) -> List[Member]:
  """Splits weights that are stacked over members into networks.

  Args:
    weights: Kernel, bias, scale and offset of each hidden layer, then kernel
      and bias of the head, each `[E, ...]`.

  Returns:
    E networks.
  """
  members = []
  for e in range(weights[0].shape[0]):
    own = [w[e] for w in weights]
    hidden = [Layer(*own[i : i + 4]) for i in range(0, len(own) - 2, 4)]
    members.append(Member(hidden, own[-2], own[-1]))
  return members


def member_logits(
    member: Member, observation: tf.Tensor, actions: tf.Tensor
) -> tf.Tensor:
  """Evaluates one network.

  Args:
    member: The network.
    observation: `[B, F]`.
    actions: `[B, N, A]`.

  Returns:
    `[B, N, bins]`.
  """
  num_actions = actions.shape[1]
  repeated = tf.repeat(observation[:, tf.newaxis], num_actions, axis=1)
  x = tf.concat([repeated, actions], axis=-1)
  x = tf.reshape(x, [-1, x.shape[-1]])
  for layer in member.hidden:
    x = tf.matmul(x, layer.kernel) + layer.bias
    mean, variance = tf.nn.moments(x, axes=[-1], keepdims=True)
    x = (x - mean) * tf.math.rsqrt(variance + 1e-6) * layer.scale + layer.offset
    x = x * tf.sigmoid(x)
  x = tf.matmul(x, member.head_kernel) + member.head_bias
  return tf.reshape(x, [-1, num_actions, x.shape[-1]])


def expected_value(logits: tf.Tensor, edges: tf.Tensor) -> tf.Tensor:
  """Returns the mean `[...]` of the histograms of logits `[..., bins]`."""
  centers = (edges[:-1] + edges[1:]) / 2.0
  return tf.reduce_sum(tf.nn.softmax(logits) * centers, axis=-1)


def mean_value_and_gradient(
    weights: Sequence[tf.Tensor],
    observation: tf.Tensor,
    actions: tf.Tensor,
    edges: tf.Tensor,
) -> Tuple[tf.Tensor, tf.Tensor]:
  """Returns the mean over members of values `[B, N]` and their gradients."""
  num_members = weights[0].shape[0]

  def step(e, total, total_gradient):
    member = unstack([tf.gather(w, e[tf.newaxis]) for w in weights])[0]
    with tf.GradientTape() as tape:
      tape.watch(actions)
      values = expected_value(
          member_logits(member, observation, actions), edges
      )
    gradient = tape.gradient(values, actions)
    return e + 1, total + values, total_gradient + gradient

  _, total, total_gradient = tf.while_loop(
      lambda e, *_: e < num_members,
      step,
      (tf.constant(0), tf.zeros_like(actions[..., 0]), tf.zeros_like(actions)),
  )
  return total / num_members, total_gradient / num_members


def search(
    weights: Sequence[tf.Tensor],
    observation: tf.Tensor,
    samples: tf.Tensor,
    settings: Settings,
) -> Tuple[tf.Tensor, tf.Tensor]:
  """Algorithm 1: keeps the best K of `samples` `[B, N, A]` and ascends.

  Returns:
    Actions `[B, K, A]` and their values `[B, K]`, the best of all iterates.
  """
  def evaluate(actions):
    return mean_value_and_gradient(
        weights, observation, actions, settings.edges
    )

  values, _ = evaluate(samples)
  best_values, order = tf.math.top_k(values, settings.num_candidates)
  actions = best = tf.gather(samples, order, batch_dims=1)

  def step(i, actions, best, best_values):
    values, gradient = evaluate(actions)
    is_better = values >= best_values
    best = tf.where(is_better[..., tf.newaxis], actions, best)
    best_values = tf.where(is_better, values, best_values)
    moved = tf.clip_by_value(
        actions + settings.step_size * gradient, -1.0, 1.0
    )
    return i + 1, moved, best, best_values

  _, actions, best, best_values = tf.while_loop(
      lambda i, *_: i < settings.num_gradient_steps,
      step,
      (tf.constant(0), actions, best, best_values),
  )
  values, _ = evaluate(actions)
  is_better = values >= best_values
  return (
      tf.where(is_better[..., tf.newaxis], actions, best),
      tf.where(is_better, values, best_values),
  )


def best_action(
    weights: Sequence[tf.Tensor],
    observation: tf.Tensor,
    samples: tf.Tensor,
    settings: Settings,
) -> tf.Tensor:
  """Returns the best action `[B, A]` found by the search."""
  actions, values = search(weights, observation, samples, settings)
  best = tf.argmax(values, axis=-1, output_type=tf.int32)
  return tf.gather(actions, best, batch_dims=1)


def histogram(values: tf.Tensor, settings: Settings) -> tf.Tensor:
  """Returns the HL-Gauss target `[B, bins]` of `values` `[B]`."""
  z = (settings.edges - values[:, tf.newaxis]) / settings.sigma
  cdf = 0.5 * (1.0 + tf.math.erf(z / 2.0**0.5))
  mass = cdf[:, 1:] - cdf[:, :-1]
  return mass / tf.reduce_sum(mass, axis=-1, keepdims=True)


def critic_losses(
    weights: Sequence[tf.Tensor],
    target_weights: Sequence[tf.Tensor],
    batch: Batch,
    draws: Draws,
    settings: Settings,
) -> Tuple[tf.Tensor, tf.Tensor]:
  """Computes Cal-QL's loss: temporal differences and calibrated penalty.

  Args:
    weights: Weights of the critic, as for `unstack`.
    target_weights: Weights of the target critic.
    batch: Transitions.
    draws: Random draws.
    settings: Hyperparameters.

  Returns:
    Loss `[B]` and target `[B]`.
  """
  target_members = unstack(target_weights)
  searched = [tf.stop_gradient(w) for w in weights]

  # First search: the target action at s'.
  next_action = best_action(
      searched, batch.next_observation, draws.next_samples, settings
  )
  next_values = _member_values(
      target_members, batch.next_observation, next_action, settings
  )
  next_value = tf.reduce_min(
      tf.gather(next_values, draws.target_members), axis=0
  )
  target = tf.stop_gradient(
      batch.reward + settings.gamma * batch.discount * next_value
  )
  # Second and third search: the policy actions of the penalty, at s' and s.
  num_columns = draws.random_actions.shape[1]
  columns = [draws.random_actions]
  for observation, samples in (
      (batch.next_observation, draws.next_samples),
      (batch.observation, draws.samples),
  ):
    action = best_action(searched, observation, samples, settings)
    columns.append(tf.repeat(action[:, tf.newaxis], num_columns, axis=1))
  columns = tf.concat(columns + [batch.action[:, tf.newaxis]], axis=1)
  probabilities = histogram(target, settings)
  bound = batch.monte_carlo_return[:, tf.newaxis]

  def member_losses(own_weights):
    member = unstack([w[tf.newaxis] for w in own_weights])[0]
    logits = member_logits(
        member, batch.observation, batch.action[:, tf.newaxis]
    )[:, 0]
    td_loss = -tf.reduce_sum(
        probabilities * tf.nn.log_softmax(logits), axis=-1
    )
    values = expected_value(
        member_logits(member, batch.observation, columns), settings.edges
    )
    random, policy, data = tf.split(
        values, [num_columns, 2 * num_columns, 1], axis=1
    )
    joined = tf.concat([random, tf.maximum(policy, bound), data], axis=1)
    count = tf.cast(tf.shape(joined)[1], tf.float32)
    penalty = (
        tf.reduce_logsumexp(joined, axis=-1) - tf.math.log(count) - data[:, 0]
    )
    return td_loss, penalty

  td_losses, penalties = tf.map_fn(
      member_losses,
      [tf.convert_to_tensor(w) for w in weights],
      fn_output_signature=(tf.float32, tf.float32),
  )
  td_loss = tf.reduce_mean(td_losses, axis=0)
  penalty = tf.reduce_mean(tf.gather(penalties, draws.penalty_members), axis=0)
  return td_loss + settings.conservative_weight * penalty, target


def critic_update(
    weights: Sequence[tf.Variable],
    target_weights: Sequence[tf.Variable],
    batch: Batch,
    draws: Draws,
    settings: Settings,
) -> Tuple[tf.Tensor, tf.Tensor, List[tf.Tensor]]:
  """Returns loss `[B]`, target `[B]` and the gradient of the mean loss."""
  with tf.GradientTape() as tape:
    loss, target = critic_losses(
        weights, target_weights, batch, draws, settings
    )
    total = tf.reduce_mean(loss)
  return loss, target, tape.gradient(total, weights)


def _member_values(members, observation, action, settings):
  return tf.stack([
      expected_value(
          member_logits(member, observation, action[:, tf.newaxis]),
          settings.edges,
      )[:, 0]
      for member in members
  ])
