"""Environments in another process, local or remote, over dm_env_rpc.

For simulators and robots that need a different Python environment. The server
is a separate program. `examples/remote_environment/server.py` serves any
gymnasium environment and documents the names and settings of the protocol.
"""

from typing import Any, Dict, List, Mapping, Optional

from absl import logging
import gin
import gymnasium
import numpy as np

from parl_tf.domains import arguments
from parl_tf.domains import domain
from parl_tf.domains import gymnasium_adapter
from parl_tf.domains import remote_connection

_OBSERVATION = 'observation'


class RemoteEnvironment(gymnasium.Env):
  """A gymnasium environment behind a connection.

  If the server stops answering, the episode is lost: `step` raises
  `EpisodeLostError`, and the next reset waits for the server to return.
  """

  def __init__(
      self,
      address: str,
      settings: Mapping[str, Any],
      *,
      deadline_seconds: float,
      reconnect_seconds: float,
  ):
    """Connects to the server; see `Remote` for the arguments.

    Raises:
      ConnectionError: If no server can be reached in time.
      RuntimeError: If the server answers with an error.
      ValueError: If the server lacks the required actions or observations.
    """
    self._address = address
    self._connect = lambda: remote_connection.connect(
        address,
        settings,
        deadline_seconds=deadline_seconds,
        reconnect_seconds=reconnect_seconds,
    )
    self._connection: Optional[remote_connection.Connection] = self._connect()
    self._action_spec = self._connection.actions.get('action')
    self._specs = self._connection.observations
    parts = {
        name.partition('/')[2]: spec
        for name, spec in self._specs.items()
        if name.partition('/')[0] == _OBSERVATION
    }
    if self._action_spec is None or not parts or 'reward' not in self._specs:
      raise ValueError(
          f'{address}: the server must have the action `action` and the'
          ' observations `observation` and `reward`, got'
          f' {sorted(self._connection.actions)} and {sorted(self._specs)}.'
      )
    if not (self._action_spec.HasField('min') and
            self._action_spec.HasField('max')):
      raise ValueError(
          f'{address}: the spec of `action` must have bounds, `min` and `max`,'
          ' got none.'
      )
    self.action_space = _make_box(self._action_spec)
    self.observation_space = (
        _make_box(parts[''])
        if '' in parts
        else gymnasium.spaces.Dict(
            {key: _make_box(spec) for key, spec in parts.items()}
        )
    )

  @property
  def reports_success(self) -> bool:
    """Whether the server says which steps are successes."""
    return 'success' in self._specs

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed, options=options)
    settings = {} if seed is None else {'seed': np.int64(seed)}
    if self._connection is None:
      logging.info('%s: reconnecting.', self._address)
      self._connection = self._checked(self._connect())
    try:
      values = self._connection.reset(settings)
    except remote_connection.NoAnswerError as error:
      raise self._lost(error) from error
    return self._observation(values), {'success': _success(values)}

  def step(self, action):
    if self._connection is None:
      raise self._lost()
    try:
      state, values = self._connection.step({'action': action})
    except remote_connection.NoAnswerError as error:
      raise self._lost(error) from error
    return (
        self._observation(values),
        float(values['reward']),
        state == remote_connection.TERMINATED,
        state == remote_connection.INTERRUPTED,
        {'success': _success(values)},
    )

  def stop_robot(self) -> None:
    """Tells the server that the episode is over.

    It may not know: the client counts the steps. The connection is given up if
    the server does not answer, which also ends the episode there.
    """
    if self._connection is None:
      return
    try:
      self._connection.end_episode()
    except (remote_connection.NoAnswerError, RuntimeError) as error:
      logging.warning('%s: the end of the episode is lost: %s', self._address,
                      error)
      self._lost()

  def close(self) -> None:
    if self._connection is not None:
      self._connection.leave()
      self._connection = None

  def _checked(
      self, connection: remote_connection.Connection
  ) -> remote_connection.Connection:
    """Returns a new connection if its specs are those of the first one."""
    for what, before, now in (
        ('observations', self._specs, connection.observations),
        ('action', self._action_spec, connection.actions.get('action')),
    ):
      if now != before:
        connection.close()
        raise ValueError(
            f'{self._address}: the server must have the same {what} as before'
            f' the reconnection, {before}, got {now}.'
        )
    return connection

  def _lost(
      self, error: Optional[Exception] = None
  ) -> domain.EpisodeLostError:
    if self._connection is not None:
      self._connection.close()
      self._connection = None
    cause = f' {error}' if error else ''
    return domain.EpisodeLostError(
        f'{self._address}: the connection was lost during an episode.{cause}'
    )

  def _observation(self, values: Mapping[str, np.ndarray]) -> Any:
    parts: Dict[str, np.ndarray] = {
        name.partition('/')[2]: np.asarray(array)
        for name, array in values.items()
        if name.partition('/')[0] == _OBSERVATION
    }
    return parts[''] if '' in parts else parts


@gin.configurable
class Remote(gymnasium_adapter.GymnasiumDomain):
  """A task whose environments run on a server."""

  def __init__(
      self,
      address: str = gin.REQUIRED,
      *,
      max_episode_steps: int = gin.REQUIRED,
      settings: Optional[Mapping[str, Any]] = None,
      max_environments: Optional[int] = None,
      action_repeat: int = 1,
      reward_scale: float = 1.0,
      reward_bias: float = 0.0,
      deadline_seconds: float = 10.0,
      reconnect_seconds: float = 60.0,
  ):
    """Connects to the server and reads its specs.

    Args:
      address: `host:port` of the server. The connection is not encrypted;
        beyond one machine, use a trusted network or a tunnel.
      max_episode_steps: Environment steps before the timeout.
      settings: Numbers and strings by name, sent when a world (an environment
        on the server) is created.
      max_environments: Maximum number of connections and worlds. With 1,
        evaluation and collection share one. None for no limit.
      action_repeat: Number of server steps for which each action is repeated.
      reward_scale: Factor on the raw reward.
      reward_bias: Added to the scaled reward.
      deadline_seconds: Maximum time for an answer. If the server is slower, the
        episode is lost.
      reconnect_seconds: How long a reset waits for an unreachable server.

    Raises:
      ConnectionError: If no server can be reached in time.
      RuntimeError: If the server answers with an error.
      ValueError: If an argument is out of range, or the server lacks the
        required actions or observations.
    """
    if max_environments is not None:
      arguments.check_range('max_environments', max_environments, 1)
    arguments.check_range('action_repeat', action_repeat, 1)
    arguments.check_positive('deadline_seconds', deadline_seconds)
    arguments.check_positive('reconnect_seconds', reconnect_seconds)
    self._set_constants(max_episode_steps, reward_scale, reward_bias)
    self.max_environments = max_environments
    self._shared: List[gymnasium_adapter.GymnasiumEnvironment] = []
    self._action_repeat = action_repeat
    self._connect = lambda: RemoteEnvironment(
        address,
        settings or {},
        deadline_seconds=deadline_seconds,
        reconnect_seconds=reconnect_seconds,
    )
    environment = self.make_environment(0, evaluation=False)
    if not environment.gymnasium_environment.reports_success:
      logging.warning(
          '%s: no episode can succeed, because the server has no observation'
          ' `success`.',
          address,
      )
    self._read_specs(environment)

  def make_environment(
      self, seed: int, evaluation: bool
  ) -> gymnasium_adapter.GymnasiumEnvironment:
    del evaluation  # The server does not distinguish them.
    if len(self._shared) == self.max_environments:
      environment = self._shared.pop(0)
      environment.seed(seed)
    else:
      environment = gymnasium_adapter.GymnasiumEnvironment(
          self._connect(),
          seed=seed,
          action_repeat=self._action_repeat,
          max_episode_steps=self.max_episode_steps,
      )
    if self.max_environments is not None:
      self._shared.append(environment)
    return environment


def _make_box(spec: Any) -> gymnasium.spaces.Box:
  """Returns the box of a `TensorSpec`; see `remote_connection.bounds_of`."""
  low, high, dtype = remote_connection.bounds_of(spec)
  return gymnasium.spaces.Box(low, high, tuple(spec.shape), dtype.type)


def _success(values: Mapping[str, np.ndarray]) -> bool:
  return bool(values.get('success', False))
