"""Checks that a policy knows the tokens of its task and of its data.

A token outside the policy's vocabulary has no embedding.
"""

from typing import Any, Mapping, Sequence

import numpy as np

from parl_tf import types


def check_task(policy: Any, observation_spec: Any) -> None:
  """Checks the bounds that a task declares of its tokens, if it does.

  Args:
    policy: `GenerativePolicy`.
    observation_spec: Observation spec of the task.

  Raises:
    ValueError: If they are not within the policy's vocabulary.
  """
  for name, size in policy.vocabulary_sizes.items():
    spec = _part(observation_spec, name)
    if not hasattr(spec, 'minimum'):
      continue
    low, high = np.min(spec.minimum), np.max(spec.maximum)
    if np.isinf(low) or np.isinf(high):
      continue
    if low < 0 or high >= size:
      raise ValueError(
          f"The task's observation `{name}` must have {_wanted(size)}, got a"
          f' spec with numbers from {low:g} to {high:g}.'
      )


def check_episodes(
    path: str, episodes: Sequence[types.Episode], policy: Any
) -> None:
  """Checks the tokens of a dataset, one episode at a time.

  Args:
    path: The dataset, for the message.
    episodes: Its episodes, in its order.
    policy: `GenerativePolicy`.

  Raises:
    ValueError: If a token is not in the policy's vocabulary.
  """
  for name, size in policy.vocabulary_sizes.items():
    for number, episode in enumerate(episodes):
      tokens = _part(episode.observation, name)
      is_known = (tokens >= 0) & (tokens < size) & (tokens % 1 == 0)
      if np.all(is_known):
        continue
      step, entry = np.argwhere(~is_known)[0]
      raise ValueError(
          f'{path}: the observation `{name}` must have {_wanted(size)}, got'
          f' {tokens[step, entry]:g} in entry {entry} of step {step} of episode'
          f' {number}.'
      )


def _part(observation: Any, name: str) -> Any:
  if isinstance(observation, Mapping):
    return observation[name]
  return observation


def _wanted(size: int) -> str:
  return (
      f"tokens of the policy's vocabulary, integers in [0, {size - 1}]"
      ' (`VisionLanguageTransformer.vocabulary_size`)'
  )
