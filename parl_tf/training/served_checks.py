"""Checks, before any work, what fine-tunes a served policy."""

from typing import Any, Optional

import numpy as np
import tensorflow as tf


def check(
    agent: Any,
    num_samples: Optional[int],
    num_rows: int,
    *,
    uses_server: bool,
    needs_versions: bool,
) -> None:
  """Checks that an agent and the servers of its policy suit `ServedOnline`.

  Args:
    agent: The agent.
    num_samples: Samples of a state; None takes N of the search for training.
    num_rows: States that a fit of the policy has.
    uses_server: Whether there is an epoch.
    needs_versions: Whether the server must save versions of the weights.

  Raises:
    ConnectionError: If the server or one of its workers does not answer.
    ValueError: If one of them is unsuitable.
  """
  policy = agent.generative_policy
  if not policy.is_served:
    raise ValueError(
        '`ServedOnline` needs a policy of another process, got '
        f'{type(policy).__name__}.'
    )
  optimizer = agent.searches.training.optimizer
  if agent.critic is None or optimizer is None:
    raise ValueError(
        '`ServedOnline` needs a critic and `Search.optimizer`, got '
        f'{agent.critic} and {optimizer}.'
    )
  least = optimizer.num_candidates
  if num_samples is not None and num_samples < least:
    raise ValueError(
        '`ServedOnline.num_samples` must be at least '
        f'`ActionOptimizer.num_candidates`, {least}, got {num_samples}.'
    )
  if uses_server:
    with policy:
      _check_server(policy.client, needs_versions)
      _check_draws(agent, policy, num_rows)
      _check_workers(policy.clients())


def _check_draws(agent, policy, num_rows):
  """Raises `ValueError` if all draws or fits of a phase would be refused."""
  spec = policy.client.spec
  example = tf.nest.map_structure(
      lambda x: np.zeros([1, *x.shape], x.dtype.as_numpy_dtype),
      agent.time_step_spec.observation,
  )
  try:
    state = spec.checked_observation(policy.to_message(example), 1)
  except ValueError as error:
    raise ValueError(f'{policy.client.address}: {error}') from error
  # An observation, T actions and their mask, a row.
  num_bytes = sum(x.nbytes for x in state.values())
  num_bytes += 4 * spec.chunk_length * (spec.action_size + 1)
  limit = policy.client.metadata['parl'].get('max_training_bytes', np.inf)
  if num_rows * num_bytes > limit:
    raise ValueError(
        f'The policy server at {policy.client.address} accepts {limit} bytes a'
        f' training, but `ServedOnline.num_fitted_rows`, {num_rows}, of'
        f' {num_bytes} bytes each are more. Bind fewer rows, or its author'
        ' passes a larger `max_training_bytes` to `serve`.'
    )
  if spec.has_temperature or not spec.stochastic:
    return
  for name, search in zip(agent.searches._fields, agent.searches):
    if search.temperature != 1.0:
      raise ValueError(
          f'The policy server at {policy.client.address} has no temperature but'
          f' 1, got {search.temperature:g} in the search for {name}. Bind'
          ' `Search.temperature = 1.0` in all scopes, or its author passes'
          ' `PolicySpec(has_temperature=True)`.'
      )


def _check_workers(clients):
  """Raises `ValueError` unless workers, if any, can follow the server."""
  for client in clients:
    if len(clients) > 1 and not client.can_save:
      raise ValueError(
          f'The policy server at {client.address} must save and load versions'
          ' of the weights for `RemotePolicy.workers`: its author passes'
          ' `save`, `load` and `directory`, which is the same for all servers,'
          ' to `serve`.'
      )
  size = clients[0].spec.max_batch
  for client in clients:
    if client.spec.max_batch < size:
      raise ValueError(
          f'The policy server at {client.address} must accept the {size} states'
          ' a call that its first server takes, got `max_batch`'
          f' {client.spec.max_batch}.'
      )


def _check_server(client, needs_versions):
  """Raises `ValueError` unless a server can do what the epochs need."""
  if not client.can_train:
    raise ValueError(
        f'The policy server at {client.address} must be able to train its'
        ' policy: its author passes `train` to `serve`.'
    )
  if needs_versions and not client.can_save:
    raise ValueError(
        f'The policy server at {client.address} must save versions for'
        ' `ServedOnline.candidate_lag`: its author passes `save`, `load` and'
        ' `directory` to `serve`.'
    )
