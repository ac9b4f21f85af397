"""Connection to a dm_env_rpc world, with a deadline for every answer."""

import queue
import threading
import time
from typing import Any, Dict, Mapping, Optional, Tuple

import grpc
import numpy as np

try:
  from dm_env_rpc.v1 import dm_env_rpc_pb2 as rpc
  from dm_env_rpc.v1 import dm_env_rpc_pb2_grpc
  from dm_env_rpc.v1 import error as rpc_error
  from dm_env_rpc.v1 import message_utils
  from dm_env_rpc.v1 import spec_manager
  from dm_env_rpc.v1 import tensor_spec_utils
  from dm_env_rpc.v1 import tensor_utils
except ImportError as error:
  raise ImportError(
      'Remote environments need dm_env_rpc: pip install "parl_tf[remote]".'
  ) from error

TERMINATED = rpc.EnvironmentStateType.TERMINATED
INTERRUPTED = rpc.EnvironmentStateType.INTERRUPTED
_CHANNEL_OPTIONS = [
    ('grpc.max_send_message_length', -1),
    ('grpc.max_receive_message_length', -1),
    # Otherwise, a new channel to an address shares the backoff of an old one.
    ('grpc.use_local_subchannel_pool', 1),
]
_GONE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0  # Seconds between attempts.
_CLOSE_SECONDS = 1.0


class NoAnswerError(ConnectionError):
  """The server did not answer in time, or the connection is closed."""


class Connection:
  """A connection to one world.

  Attributes:
    actions: Specs of the actions by name.
    observations: Specs of the observations by name.
  """

  def __init__(
      self,
      address: str,
      settings: Mapping[str, Any],
      deadline_seconds: float,
      connect_seconds: Optional[float] = None,
  ):
    """Connects, creates a world and joins it.

    Args:
      address: `host:port`.
      settings: Settings of the world.
      deadline_seconds: Maximum time for an answer.
      connect_seconds: The same while connecting; None takes
        `deadline_seconds`.

    Raises:
      NoAnswerError: If the server does not answer in time.
      RuntimeError: If the server answers with an error.
    """
    self._address = address
    self._deadline = connect_seconds or deadline_seconds
    self._is_closed = False
    self._requests: queue.Queue = queue.Queue()
    self._answers: queue.Queue = queue.Queue()
    self._channel = grpc.insecure_channel(address, options=_CHANNEL_OPTIONS)
    try:
      # A separate thread reads, because reading the stream has no timeout.
      threading.Thread(target=self._read, daemon=True).start()
      world = self.send(rpc.CreateWorldRequest(settings=_pack(settings)))
      joined = self.send(rpc.JoinWorldRequest(world_name=world.world_name))
    except BaseException:
      self.close()
      raise
    self._deadline = deadline_seconds
    self._world_name = world.world_name
    self._action_specs = spec_manager.SpecManager(joined.specs.actions)
    self._observation_specs = spec_manager.SpecManager(
        joined.specs.observations
    )
    self.actions = self._action_specs.specs_by_name
    self.observations = self._observation_specs.specs_by_name

  def reset(self, settings: Mapping[str, Any]) -> Dict[str, np.ndarray]:
    """Starts an episode; returns the first observations by name."""
    self.send(rpc.ResetRequest(settings=_pack(settings)))
    _, observations = self.step({})
    return observations

  def end_episode(self) -> None:
    """Makes the next step the first one of an episode."""
    self.send(rpc.ResetRequest())

  def step(
      self, actions: Mapping[str, np.ndarray]
  ) -> Tuple[int, Dict[str, np.ndarray]]:
    """Takes a step; returns the state and the observations by name."""
    answer = self.send(
        rpc.StepRequest(
            requested_observations=self._observation_specs.uids(),
            actions=self._action_specs.pack(actions),
        )
    )
    return answer.state, self._observation_specs.unpack(answer.observations)

  def send(self, request: Any) -> Any:
    """Sends a request and waits for its answer.

    Raises:
      NoAnswerError: If no answer comes in time, or the connection breaks.
      RuntimeError: If the server answers with an error.
    """
    message, field = message_utils.pack_environment_request(request)
    self._requests.put(message)
    try:
      answer = self._answers.get(timeout=self._deadline)
    except queue.Empty as error:
      raise self._no_answer(f'no answer to `{field}`') from error
    except BaseException:  # The late answer would be taken for the next one.
      self.close()
      raise
    if isinstance(answer, grpc.RpcError) and answer.code() not in _GONE:
      raise RuntimeError(
          f'{self._address}: the server failed at `{field}`: {answer.code()},'
          f' {answer.details()}'
      ) from answer
    if isinstance(answer, Exception):
      raise self._no_answer(f'`{field}`: {answer!r}') from answer
    try:
      return message_utils.unpack_environment_response(answer, field)
    except rpc_error.DmEnvRpcError as error:
      raise RuntimeError(
          f'{self._address}: the server answered `{field}` with an error:'
          f' {error.message}'
      ) from error

  def leave(self) -> None:
    """Destroys the world if the server still answers, then disconnects."""
    if self._is_closed:
      return
    self._deadline = _CLOSE_SECONDS
    try:
      self.send(rpc.LeaveWorldRequest())
      self.send(rpc.DestroyWorldRequest(world_name=self._world_name))
    except (NoAnswerError, RuntimeError):
      pass  # The server is gone, and so are its worlds.
    self.close()

  def close(self) -> None:
    """Disconnects immediately."""
    self._is_closed = True
    self._requests.put(None)
    self._channel.close()

  def _read(self) -> None:
    stub = dm_env_rpc_pb2_grpc.EnvironmentStub(self._channel)
    try:
      for answer in stub.Process(iter(self._requests.get, None)):
        self._answers.put(answer)
      self._answers.put(EOFError('the server closed the connection'))
    except (grpc.RpcError, ValueError) as error:  # ValueError if closed here.
      self._answers.put(error)

  def _no_answer(self, what: str) -> NoAnswerError:
    return NoAnswerError(
        f'{self._address}: the server must answer within {self._deadline:g} s'
        f' (`deadline_seconds`): {what}.'
    )


def connect(
    address: str,
    settings: Mapping[str, Any],
    *,
    deadline_seconds: float,
    reconnect_seconds: float,
) -> Connection:
  """Connects to a server, which may still be starting.

  Args:
    address: `host:port`.
    settings: Settings of the world.
    deadline_seconds: Maximum time for an answer.
    reconnect_seconds: How long to keep trying.

  Raises:
    ConnectionError: If no attempt succeeds. The message names the address.
    RuntimeError: If the server answers with an error.
  """
  start, pause = time.monotonic(), _FIRST_PAUSE
  last: Optional[Exception] = None
  while True:
    left = start + reconnect_seconds - time.monotonic()
    if left <= 0.0:
      raise ConnectionError(
          f'{address}: could not reach a server within {reconnect_seconds:g} s'
          f' (`reconnect_seconds`); last attempt: {last}'
      ) from last
    try:
      return Connection(
          address, settings, deadline_seconds, min(deadline_seconds, left)
      )
    except NoAnswerError as error:
      last = error
    time.sleep(min(pause, max(left, 0.0)))
    pause = min(2.0 * pause, _LONGEST_PAUSE)


def bounds_of(spec: Any) -> Tuple[np.ndarray, np.ndarray, np.dtype]:
  """Returns `(low, high, dtype)` of a `TensorSpec`.

  Without bounds, integers have those of their dtype, other dtypes none.
  """
  dtype = np.dtype(tensor_utils.data_type_to_np_type(spec.dtype))
  shape = tuple(spec.shape)
  if spec.HasField('min') and spec.HasField('max'):
    found = tensor_spec_utils.bounds(spec)
    low, high = found.min, found.max
  elif np.issubdtype(dtype, np.integer):
    limits = np.iinfo(dtype)
    low, high = limits.min, limits.max
  else:
    low, high = -np.inf, np.inf
  return np.full(shape, low, dtype), np.full(shape, high, dtype), dtype


def _pack(settings: Mapping[str, Any]) -> Dict[str, Any]:
  return {
      name: tensor_utils.pack_tensor(value) for name, value in settings.items()
  }
