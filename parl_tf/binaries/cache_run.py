"""Fills a cache with a served policy's action samples."""

import time
from typing import List, Sequence, Tuple

import gin

from parl_tf.domains import domain as domain_lib
from parl_tf.policies import remote
from parl_tf.replay import action_cache
from parl_tf.replay import cache_filling
from parl_tf.replay import stored_states
from parl_tf.search import action_source
from parl_tf.training import builder
from parl_tf.training import cached_samples
from parl_tf.training import hindsight
from parl_tf.training import progress
from parl_tf.training import run_dataset
from parl_tf.training import run_directory
from parl_tf.training import served_acting


def fill(
    output: str,
    dataset: str,
    addresses: Sequence[str],
    *,
    workers_per_server: int = 1,
    dtype: str = 'float32',
    seed: int = 0,
) -> str:
  """Creates or resumes a cache for the domain that gin configures.

  The number of samples per state and their temperature are those of `Search` in
  the gin scope `training`.

  Args:
    output: Directory of the cache.
    dataset: Path of the dataset.
    addresses: ws:// URLs of the policy's servers.
    workers_per_server: Connections to each server.
    dtype: 'float16' or 'float32', the type of the stored samples.
    seed: Seed of the samples.

  Returns:
    A one-line summary.

  Raises:
    ConnectionError: If a server does not answer at the start, or all servers
      stop answering.
    ValueError: If the servers have different versions, the dataset is invalid,
      another process uses the directory, or its cache does not match the
      arguments, the dataset or the version.
  """
  domain = domain_lib.select_domain()
  bindings = gin.get_bindings(builder.build_agent)
  chunk_length = bindings.get('chunk_length', 1)
  num_frames = bindings.get('num_frames', 1)
  with gin.config_scope('training'):
    search = action_source.Search()
  policies, version = _connect(
      served_acting.model_spec(domain, chunk_length, num_frames),
      list(addresses) * workers_per_server,
  )
  with run_directory.hold(output, 'cache.lock'):
    episodes = run_dataset.load(dataset, domain, output)
    states = stored_states.episode_states(
        hindsight.Hindsight(domain).with_copies('offline', episodes), num_frames
    )
    cache = action_cache.ActionCache.open_or_create(
        output,
        action_cache.Header(
            version,
            search.num_samples,
            chunk_length * domain.action_spec().shape[0],
            seed,
            search.temperature,
            dtype,
            policies[0].sample_settings,
        ),
        states,
    )
    return _fill(cache, states, policies)


def _connect(spec, addresses) -> Tuple[List[remote.RemotePolicy], str]:
  """Returns a policy for each worker, and the version of all their weights."""
  policies = [
      # Each server is a worker of the cache.
      remote.RemotePolicy(spec, address=x, workers=()) for x in addresses
  ]
  versions = {x: p.current_version() for x, p in zip(addresses, policies)}
  if len(set(versions.values())) > 1:
    raise ValueError(
        'The servers must have the same version of the weights, got '
        f'{versions}.'
    )
  specs = {x: p.client.spec for x, p in zip(addresses, policies)}
  sizes = {x: spec and spec.max_batch for x, spec in specs.items()}
  if len(set(sizes.values())) > 1:
    raise ValueError(
        'The servers must have one `max_batch`, on which their samples depend,'
        f' got {sizes}.'
    )
  for policy in policies:
    policy.version = versions[addresses[0]]
  return policies, versions[addresses[0]]


def _fill(cache, states, policies) -> str:
  num_before, start = len(cache.complete_shards), time.monotonic()
  samplers = [
      cached_samples.served_sampler(policy, cache.header) for policy in policies
  ]
  with progress.Progress(
      'samples', cache.num_shards, num_before, unit='shard'
  ) as bar:
    cache_filling.fill(cache, states, samplers, bar.update)
  cache.verify()
  for policy in policies:
    policy.close()
  header = cache.header
  num_bytes = cache.samples.nbytes // header.num_states
  return (
      f'{header.num_states} states, {header.num_samples} samples of version '
      f'{header.version} each, {num_bytes} bytes per state; '
      f'{cache.num_shards - num_before} of {cache.num_shards} shards drawn in '
      f'{time.monotonic() - start:.1f} s: {cache.directory}'
  )
