"""A policy that another process serves; see `parl_tf.serving`."""

import hashlib
import os
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence
import zlib

from absl import logging
import gin
import numpy as np
import tensorflow as tf

from parl_tf import action_range
from parl_tf import types
from parl_tf.policies import generative_policy
from parl_tf.serving import client as client_lib
from parl_tf.serving import policy_spec
from parl_tf.serving import pool
from parl_tf.serving import weights

KEY_VARIABLE = 'PARL_POLICY_KEY'
"""Environment variable with the servers' API key, which no file records."""

# In units of [-1, 1]. Many policies exceed the bounds a little. If many actions
# are far outside, their unit is probably wrong.
_FAR_OUTSIDE, _MAX_SHARE_OUTSIDE = 1.5, 0.2
_MAX_SEED_DIFFERENCE = 0.02


@gin.configurable(denylist=['spec'])
class RemotePolicy(generative_policy.GenerativePolicy):
  """Draws the samples of a served policy.

  It draws them eagerly only: a graph would hide the errors of the link, and
  would draw again whenever it runs. Training therefore reads its samples from
  an action cache, and a policy that acts draws them before its compiled search.

  Attributes:
    version: Version of the weights that all samples must have; None takes any.
    is_far_outside: Whether a draw was far outside of the task's bounds.
  """

  is_served = True

  def __init__(
      self,
      spec: types.ModelSpec,
      *,
      address: str = gin.REQUIRED,
      keys: Optional[Mapping[str, str]] = None,
      constants: Optional[Mapping[str, Any]] = None,
      noise_scale: float = 0.0,
      workers: Sequence[str] = (),
      patience_seconds: float = 60.0,
      call_seconds: float = 60.0,
  ):
    """Initializes the policy without connecting.

    Args:
      spec: See `types.ModelSpec`. The server may predict more than H actions,
        of which the first H are used.
      address: `host:port` of the server, or its ws:// or wss:// URL.
      keys: The server's keys of observations, by ours; others keep their names.
        An observation that is one array is called `observation`.
      constants: Observations that are the same in all states, such as an
        instruction.
      noise_scale: Standard deviation of noise that is added to the samples, in
        units of the range [-1, 1], for policies that are deterministic.
      workers: Addresses of further servers of the same weights, which draw a
        part of large batches. They must share the directory of saved versions
        with the server at `address`, which alone is trained.
      patience_seconds: Seconds to wait for a server that does not answer.
      call_seconds: Deadline of a draw in seconds.
    """
    super().__init__()
    self.version: Optional[str] = None
    self._reloads = False
    self._address = address
    self._keys = dict(keys or {})
    self._constants = dict(constants or {})
    self._noise_scale = noise_scale
    self._options: Dict[str, Any] = dict(
        patience_seconds=patience_seconds, call_seconds=call_seconds
    )
    if spec.raw_action_bounds is None:
      raise ValueError('A served policy needs `raw_action_bounds`, got None.')
    self._range = action_range.ActionRange(spec.raw_action_bounds)
    self._action_size = len(spec.raw_action_bounds[0])
    self._num_actions = spec.chunk_length
    self.is_far_outside = False
    self._client: Optional[client_lib.PolicyClient] = None
    self._workers = list(workers)
    self._worker_clients: List[client_lib.PolicyClient] = []

  @property
  def trainable_variables(self) -> Sequence[tf.Variable]:
    return ()

  @property
  def sample_settings(self) -> str:
    """What the samples depend on besides observation, weights and seed."""
    constants = {
        name: zlib.crc32(repr(np.asarray(value).tolist()).encode())
        for name, value in sorted(self._constants.items())
    }
    return (
        f'noise_scale {self._noise_scale:g}, keys {sorted(self._keys.items())},'
        f' constants {constants}'
    )

  @property
  def client(self) -> client_lib.PolicyClient:
    """The connection to the server, made when it is first needed."""
    if self._client is None:
      self._client = self._connect(self._address)
    return self._client

  def clients(self) -> List[client_lib.PolicyClient]:
    """Returns the connections to the server and to its workers."""
    for address in self._workers[len(self._worker_clients):]:
      self._worker_clients.append(self._connect(address))
    return [self.client, *self._worker_clients]

  def current_version(self) -> str:
    """Asks the server for the version of its weights."""
    if self.client.spec is None:
      return client_lib.metadata_version(self.client.metadata)
    return self.client.status()['version']

  def restore(self, version: str) -> None:
    """Makes the server use a version of its weights, and all samples have it.

    From then on, a server that was restarted is made to load it again.

    Raises:
      ConnectionError: If the server does not answer.
      ValueError: If the server has another version and cannot load this one;
        the message names both.
    """
    if self.client.can_save:
      # Also if the version is right: the server may still train for a run that
      # was killed, and loads afterwards.
      self.client.load(version)
    elif (current := self.current_version()) != version:
      raise ValueError(
          f'The policy server at {self._address} must have version {version!r},'
          f' got {current!r}, and cannot load others: restart it with that one.'
      )
    self.version = version
    self._load_in_workers(version)
    self._reloads = self.client.can_save

  def fit(
      self,
      observation: types.Nest,
      actions: np.ndarray,
      mask: Optional[np.ndarray] = None,
      *,
      num_steps: int,
      seed: int,
      saves: bool = True,
  ) -> client_lib.Training:
    """Trains the policy on actions, from `version`, and saves the new version.

    Afterwards all samples must have the new version.

    Args:
      observation: Nest of `[R, ...]`, raw.
      actions: `[R, H * A]` in [-1, 1].
      mask: `[R, H * A]`, 0 for elements to ignore; None ignores none.
      num_steps: Gradient steps.
      seed: Non-negative integer.
      saves: Whether the server saves the new version, if it can.

    Raises:
      ConnectionError: If the server does not answer.
      StaleVersionError: If the server does not have `version`.
    """
    shape = (len(actions), self._num_actions, self._action_size)
    actions = self._range.to_raw(np.reshape(actions, shape))
    spec = self.client.spec
    if spec is None:
      raise ValueError(
          f'The server at {self._address} must be able to train its policy.'
      )
    kept = np.ones(shape[:2], np.float32)
    if mask is not None:
      kept = np.min(np.reshape(mask, shape), axis=2)
    # The server fits none of the actions that follow the first H. They repeat
    # the last of these, because a network may still read them.
    missing = spec.chunk_length - self._num_actions
    if missing:
      logging.log_first_n(
          logging.WARNING,
          'The policy at %s predicts %d actions. The run plays and trains the'
          ' first %d of them (`build_agent.chunk_length`).',
          1,
          self._address, spec.chunk_length, self._num_actions,
      )

    def train():
      training = self.client.train(
          self.to_message(observation),
          np.pad(actions, [(0, 0), (0, missing), (0, 0)], mode='edge'),
          num_steps=num_steps,
          seed=seed,
          version=self.version,
          mask=np.pad(kept, [(0, 0), (0, missing)]),
      )
      if saves and self.client.can_save:
        # A server that was restarted since then must train again.
        self.client.save(training.version)
      return training

    training = self._with_version(train)
    self.version = training.version
    self._load_in_workers(self.version)
    return training

  def close(self) -> None:
    """Closes the connection; the next draw opens another one."""
    for client in (self._client, *self._worker_clients):
      if client is not None:
        client.close()

  def __enter__(self) -> 'RemotePolicy':
    return self

  def __exit__(self, *unused_exception) -> None:
    self.close()

  def sample(
      self, observation, num_samples, seed, averaged=True, temperature=1.0
  ):
    """Draws actions; see the base class.

    Raises:
      ConnectionError: If the server does not answer.
      StaleVersionError: If the server does not have `version`.
      ValueError: In a graph, or if the server's policy has no such temperature.
    """
    del averaged
    if not tf.executing_eagerly():
      raise ValueError(
          'A served policy cannot be sampled in a graph: training needs its '
          'samples from an action cache.'
      )
    seed, spec = integer_seed(seed), self.client.spec
    is_stochastic = spec is None or spec.stochastic
    actions = self._with_version(
        lambda: pool.sample(
            self.clients(),
            self.to_message(observation),
            num_samples,
            seed,
            self.version,
            temperature if is_stochastic else 1.0,
        )
    )
    return tf.constant(self.from_raw(actions, seed, temperature))

  def distillation_loss(self, observation, action, seed, mask=None):
    """Raises an error: the server trains its policy."""
    raise ValueError('The server of a policy trains it.')

  def to_message(self, observation: types.Nest) -> Mapping[str, np.ndarray]:
    """Returns the observations `[B, ...]` as the server names them."""
    if not isinstance(observation, Mapping):
      observation = {policy_spec.SINGLE: observation}
    named = {
        self._keys.get(name, name): np.asarray(x)
        for name, x in observation.items()
    }
    size = policy_spec.num_states(named)
    for name, value in self._constants.items():
      named[name] = np.repeat(np.asarray(value)[np.newaxis], size, axis=0)
    return named

  def from_raw(
      self, actions: np.ndarray, seed: int, temperature: float = 1.0
  ) -> np.ndarray:
    """Returns actions `[B, N, T, A]` of the server as `[B, N, H * A]`.

    Args:
      actions: In the units of the environment.
      seed: Seed of the noise.
      temperature: Scale of the noise, times `noise_scale`.
    """
    num_states, num_samples, length, size = actions.shape
    self._check_sizes(self._address, length, size)
    actions = self._range.from_raw(actions[:, :, : self._num_actions])
    share = float(np.mean(np.abs(actions) > _FAR_OUTSIDE))
    if share > _MAX_SHARE_OUTSIDE and not self.is_far_outside:
      self.is_far_outside = True
      logging.warning(
          'The policy at %s: %.0f %% of its actions are far outside of the'
          " task's bounds, and are clipped. Check its units.",
          self._address,
          100.0 * share,
      )
    if self._noise_scale:
      noise = np.random.default_rng(seed).normal(size=actions.shape)
      actions = actions + temperature * self._noise_scale * noise
    return np.clip(actions, -1.0, 1.0).astype(np.float32).reshape(
        num_states, num_samples, -1
    )

  def check_seeds(self, observation: types.Nest) -> None:
    """Checks that equal seeds give equal samples, if the server's spec says so.

    Args:
      observation: Nest of `[B, ...]`, raw, of a few states.

    Raises:
      ConnectionError: If the server does not answer.
      ValueError: If they do not.
    """
    spec = self.client.spec
    if spec is None or not (spec.stochastic and spec.seedable):
      return
    first, second = (self.sample(observation, 1, [0, 1]) for _ in range(2))
    # Sums in another order, as on a GPU, may round differently.
    difference = float(np.max(np.abs(first - second)))
    if difference > _MAX_SEED_DIFFERENCE:
      raise ValueError(
          f'The policy at {self._address} must draw equal samples for equal'
          f' seeds, but two draws differ by up to {difference:.2g} in units of'
          ' [-1, 1]. Its author sets the seed in `sample`, or passes'
          ' `PolicySpec(seedable=False)`.'
      )

  def _with_version(self, call: Callable[[], Any]) -> Any:
    """Makes a call; if the server was restarted, loads the version before."""
    try:
      return call()
    except weights.StaleVersionError as error:
      if not self._reloads or self.version is None:
        raise
      logging.warning(
          'The policy server at %s has version %s of the weights; it was'
          ' probably restarted. It loads %s again.',
          self._address, error.version, self.version,
      )
    self.restore(self.version)
    return call()

  def _connect(self, address: str) -> client_lib.PolicyClient:
    client = client_lib.PolicyClient(
        address, api_key=os.environ.get(KEY_VARIABLE), **self._options
    )
    try:
      self._check(client)
    except ValueError:
      client.close()
      raise
    return client

  def _load_in_workers(self, version: str) -> None:
    """Makes the workers load a version that the server has saved."""
    for client in self.clients()[1:]:
      if client.status()['version'] != version:
        client.load(version)

  def _check(self, client: client_lib.PolicyClient) -> None:
    """Raises `ValueError` if the server's policy is of another task."""
    spec = client.spec
    if spec is None:
      return
    self._check_sizes(client.address, spec.chunk_length, spec.action_size)
    for seen, wanted, name in zip(
        (spec.action_low, spec.action_high), self._range.bounds, ('low', 'high')
    ):
      if seen is not None and not np.allclose(seen, wanted):
        raise ValueError(
            f'The policy at {client.address} must have the bounds of the '
            f"environment's actions, {name} {wanted.tolist()}, got "
            f'{np.asarray(seen).tolist()}.'
        )

  def _check_sizes(self, address: str, length: int, size: int) -> None:
    """Raises `ValueError` unless H of a policy's T actions fit the task."""
    if length < self._num_actions or size != self._action_size:
      raise ValueError(
          f'The policy at {address} must predict at least {self._num_actions}'
          f' actions of size {self._action_size} (the chunk length and the size'
          f" of the task's actions), got {length} of size {size}."
      )


def integer_seed(seed: Any) -> int:
  """Returns a digest of a seed `[2]` int32, an integer in [0, 2^63).

  Its low 32 bits depend on all of the seed, for the generators that use no
  others: PyTorch's on a processor, and JAX's keys.
  """
  words = np.asarray(seed, np.int32).tobytes()
  digest = hashlib.sha256(words).digest()
  return int.from_bytes(digest[:8], 'little') >> 1
