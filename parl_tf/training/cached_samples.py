"""The frozen policy's samples at the states of the offline table."""

import dataclasses
import hashlib
import os
import threading
from typing import Optional

from absl import logging
import numpy as np
import tensorflow as tf

from parl_tf.replay import action_cache
from parl_tf.replay import cache_filling
from parl_tf.training import progress

DIRECTORY = 'action_cache'
"""Name of the cache in a run's directory."""

_TABLE = 'offline'
_RETRY_SECONDS = 5.0


def attach(session, directory: Optional[str]) -> None:
  """Attaches samples at both states of every row of the offline table.

  Args:
    session: Session whose policy does not change meanwhile.
    directory: A complete action cache of the policy and the dataset. None draws
      the samples to one in the run's directory, and resumes that.

  Raises:
    ValueError: If the cache is incomplete, damaged, or of something else.
  """
  agent = session.agent
  search = agent.searches.training
  states = session.experience.states(_TABLE)
  policy = agent.generative_policy
  header = action_cache.Header(
      _version(policy, is_known=directory is not None or _has_own(session)),
      search.num_samples,
      agent.chunk_length * agent.action_spec.shape[0],
      session.seed,
      search.temperature,
      settings=policy.sample_settings if policy.is_served else None,
  )
  if directory is None:
    cache = _draw(session, header, states)
  else:
    cache = action_cache.ActionCache(directory)
    _check(cache, header)
  cache.verify()
  if policy.is_served:
    policy.version = cache.header.version
    # With which a run that is killed after the phase goes on.
    session.state.offline_version = policy.version
    if session.evaluates:
      # Not at the first evaluation, which may be hours from now.
      policy.restore(policy.version)
  session.experience.set_candidates(
      _TABLE, cache.samples[:, : search.num_samples], cache.find(states)
  )
  logging.log(
      logging.INFO if policy.is_served else logging.DEBUG,
      'Samples of version %s at %d states: %s.',
      cache.header.version,
      len(states.episode_id),
      cache.directory,
  )


def warn_unused(session, directory: str) -> None:
  """Warns of a bound cache that training does not read."""
  if session.agent.generative_policy.is_served:
    return  # Its online phase may read it.
  logging.warning(
      '`Offline.action_cache` %s is not used. Cached samples need'
      ' `Offline.cache_candidates`, `train_policy = False`, a critic that draws'
      " the policy's samples without their densities, and tables in this"
      ' process.',
      directory,
  )


def detach(session) -> None:
  """Removes the samples, and the cache in the run's directory.

  The cache of a served policy is kept: it may have taken hours.
  """
  session.experience.clear_candidates(_TABLE)
  if not session.agent.generative_policy.is_served:
    action_cache.ActionCache.remove(own_directory(session))


def _draw(session, header, states) -> action_cache.ActionCache:
  """Returns the complete cache in the run's directory."""
  policy, directory = session.agent.generative_policy, own_directory(session)
  try:
    cache = action_cache.ActionCache.open_or_create(directory, header, states)
  except (FileNotFoundError, ValueError) as error:
    if policy.is_served:
      raise  # It may have taken hours.
    logging.info('Drawing the samples again: %s', error)
    action_cache.ActionCache.remove(directory)
    cache = action_cache.ActionCache.open_or_create(directory, header, states)
  if policy.is_served:
    policy.version = cache.header.version
    if cache.missing_shards:
      policy.restore(policy.version)
    sampler = served_sampler(policy, cache.header)
  else:
    sampler = local_sampler(
        session.agent.searches.training, policy, cache.header.num_states
    )
  with progress.Progress(
      'samples', cache.num_shards, len(cache.complete_shards), unit='shard'
  ) as bar:
    cache_filling.fill(cache, states, [sampler], bar.update)
  return cache


def local_sampler(search, policy, num_states: int) -> cache_filling.Sampler:
  """Returns a sampler of a policy in this process, compiled once.

  Args:
    search: `Search` that draws the samples.
    policy: `GenerativePolicy`.
    num_states: Number of states of the cache.
  """
  block_size = min(num_states, action_cache.STATES_PER_SHARD)
  sample = tf.function(
      lambda observation, seed: search.sample(policy, observation, seed),
      autograph=False,
  )

  def draw(observation, num_samples, seed):
    del num_samples  # That of the search.
    size = len(tf.nest.flatten(observation)[0])
    # The last shard is filled up, in front, so that its shape is not compiled.
    rows = tf.nest.map_structure(
        lambda x: tf.constant(
            np.concatenate([np.repeat(x[:1], block_size - size, axis=0), x])
        ),
        observation,
    )
    return sample(rows, tf.constant(seed)).numpy()[block_size - size :]

  return draw


def served_sampler(
    policy, header: action_cache.Header
) -> cache_filling.Sampler:
  """Returns a sampler of a served policy, which first checks its seeds.

  Args:
    policy: `RemotePolicy`.
    header: Header of the cache.
  """
  is_checked = False

  def draw(observation, num_samples, seed):
    nonlocal is_checked
    if not is_checked:
      policy.check_seeds(tf.nest.map_structure(lambda x: x[:4], observation))
      is_checked = True
    actions = policy.sample(
        observation, num_samples, seed, temperature=header.temperature
    )
    return actions.numpy()

  return draw


def patient_sampler(
    sampler: cache_filling.Sampler,
    are_awaited: threading.Event,
    is_stopped: threading.Event,
) -> cache_filling.Sampler:
  """Returns a sampler that tries again while nobody waits for its samples.

  The work beside which it draws may take an hour and needs no server, which may
  be away for some minutes.

  Args:
    sampler: Sampler of a served policy.
    are_awaited: Set when the other work has ended; from then on the first
      `ConnectionError` or `TimeoutError` of a draw is raised, too.
    is_stopped: Set, before `are_awaited`, if the samples are not needed any
      more.
  """

  def draw(observation, num_samples, seed):
    while True:
      try:
        return sampler(observation, num_samples, seed)
      except (ConnectionError, TimeoutError) as error:
        if are_awaited.is_set():
          raise
        logging.warning('Drawing samples meanwhile is tried again: %s', error)
        are_awaited.wait(_RETRY_SECONDS)
        if is_stopped.is_set():
          raise

  return draw


def _check(cache, header) -> None:
  """Raises `ValueError` if a given cache does not suit the run."""
  wanted = dict(
      dataclasses.asdict(header), seed=0, dtype=cache.header.dtype
  )
  if cache.header.num_samples > header.num_samples:
    wanted['num_samples'] = cache.header.num_samples  # The first are taken.
  cache.check(action_cache.Header(**wanted))


def _version(policy, is_known: bool) -> str:
  """Returns the version of a policy's weights.

  Args:
    policy: `GenerativePolicy`.
    is_known: Whether a cache has the version of a served policy, so that its
      server need not run; '' is then returned.
  """
  if policy.is_served:
    return policy.version or ('' if is_known else policy.current_version())
  sha = hashlib.sha256()
  for variable in policy.variables:
    sha.update(variable.numpy().tobytes())
  return sha.hexdigest()[:16]


def _has_own(session) -> bool:
  """Returns whether the run has a cache of its own, perhaps incomplete."""
  return action_cache.exists(own_directory(session))


def own_directory(session) -> str:
  """Returns the directory to which a run draws samples."""
  return os.path.join(session.root_dir, DIRECTORY)
