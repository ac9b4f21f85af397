"""Fills an action cache with the samples of one or several policies."""

import collections
import threading
from typing import Callable, Dict, List, Optional, Sequence

from absl import logging
import numpy as np

from parl_tf import randomness
from parl_tf import types
from parl_tf.replay import action_cache
from parl_tf.replay import stored_states

Sampler = Callable[[types.Nest, int, np.ndarray], np.ndarray]
"""Maps observations `[B, ...]`, N and a seed `[2]` to actions `[B, N, H * A]`.

Each sampler is called in one thread of its own.
"""


def shard_seed(seed: int, shard: int) -> np.ndarray:
  """Returns the seed `[2]` int32 of a shard, whichever sampler draws it.

  Args:
    seed: Seed of the cache, in int32.
    shard: Number of the shard.
  """
  start = shard * action_cache.STATES_PER_SHARD
  return randomness.fold_in([seed, 0], 'candidates', start).numpy()


def fill(
    cache: action_cache.ActionCache,
    states: stored_states.StoredStates,
    samplers: Sequence[Sampler],
    progress: Callable[[int], None] = lambda num_shards: None,
    is_stopped: Optional[threading.Event] = None,
) -> None:
  """Draws the missing shards, one sampler a thread.

  If the server of a sampler fails, the others draw its shard.

  Args:
    cache: Writable cache.
    states: Its states.
    samplers: Samplers of the same policy.
    progress: Called in this thread with the number of complete shards.
    is_stopped: Ends the drawing after the shards at hand when it is set.

  Raises:
    OSError: If all samplers failed because of their servers.
    Exception: What a sampler raised otherwise.
  """
  working = list(samplers)
  is_stopped = is_stopped or threading.Event()
  while cache.missing_shards and not is_stopped.is_set():
    # A shard of a server that failed is left over if the other workers had
    # ended before.
    failed = _fill_once(cache, states, working, progress, is_stopped)
    working = [sampler for sampler in working if sampler not in failed]
    if cache.missing_shards and not working:
      raise list(failed.values())[-1]


def _fill_once(cache, states, samplers, progress, is_stopped):
  """Draws shards until none is left; returns the errors of failed samplers."""
  pending = collections.deque(cache.missing_shards)
  errors: Dict[Sampler, Exception] = {}
  faults: List[Exception] = []
  changed = threading.Semaphore(0)

  def work(sampler):
    while pending and not faults and not is_stopped.is_set():
      try:
        shard = pending.popleft()
      except IndexError:  # Another thread took the last one.
        break
      try:
        observation = states.rows(cache.places(shard))
        seed = shard_seed(cache.header.seed, shard)
        try:
          samples = sampler(observation, cache.header.num_samples, seed)
        except OSError as error:  # Those of `write` are of the disk.
          logging.warning('A worker of the action cache stopped: %s', error)
          errors[sampler] = error
          pending.append(shard)
          break
        cache.write(shard, samples)
      except Exception as error:  # noqa: BLE001
        faults.append(error)  # The calling thread raises it.
      changed.release()

  threads = [
      threading.Thread(target=work, args=(sampler,), daemon=True)
      for sampler in samplers
  ]
  for thread in threads:
    thread.start()
  while any(thread.is_alive() for thread in threads):
    changed.acquire(timeout=0.1)
    progress(len(cache.complete_shards))
  if faults:
    raise faults[0]
  return errors
