"""Draws the samples of one version of a policy from several servers."""

import collections
from concurrent import futures
from typing import Any, Dict, Mapping, Optional, Sequence

import numpy as np

from parl_tf.serving import client as client_lib
from parl_tf.serving import policy_spec


def sample(
    clients: Sequence[client_lib.PolicyClient],
    observation: Mapping[str, Any],
    num_samples: int,
    seed: int,
    version: Optional[str],
    temperature: float = 1.0,
) -> np.ndarray:
  """Draws actions at a batch of states; each client draws the next piece.

  The pieces and their seeds are those of `PolicyClient.sample`, so that the
  samples do not depend on the number of clients.

  Args:
    clients: Clients of servers, of which several must have our extension. The
      first one's `max_batch` is the number of states of a piece, which the
      others must accept.
    observation: Arrays `[B, ...]` by name.
    num_samples: N.
    seed: Non-negative integer.
    version: Required version of the weights; None takes that of the first
      client's server.
    temperature: Scale of the policy's noise.

  Returns:
    `[B, N, T, A]` float32, in the environment's units.

  Raises:
    Exception: What `PolicyClient.sample` raised for any piece.
  """
  first, size = clients[0], policy_spec.num_states(observation)
  # A server without our extension takes one state at a time.
  step = size if first.spec is None else first.piece_size(observation)
  if len(clients) == 1 or size <= step:
    return first.sample(
        observation, num_samples, seed, version, temperature
    ).actions
  if version is None:
    version = first.status()['version']
  pending = collections.deque(range(0, size, step))
  actions: Dict[int, np.ndarray] = {}

  def work(client):
    while pending:
      try:
        start = pending.popleft()
      except IndexError:  # Another thread took the last one.
        return
      piece = {
          name: np.asarray(x)[start : start + step]
          for name, x in observation.items()
      }
      try:
        drawn = client.sample(
            piece,
            num_samples,
            client_lib.piece_seed(seed, start),
            version,
            temperature,
        )
      except Exception:
        pending.clear()  # The other clients need not draw the rest.
        raise
      actions[start] = drawn.actions

  with futures.ThreadPoolExecutor(len(clients)) as executor:
    for done in [executor.submit(work, client) for client in clients]:
      done.result()
  return np.concatenate([actions[start] for start in sorted(actions)])
