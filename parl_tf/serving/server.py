"""Serves a policy to other processes; see `serve`.

The protocol is openpi's. The server sends its metadata when a client connects.
Each binary message is an observation; the answer is a map with `actions`
`[T, A]`, or a text message with the traceback of an error. `GET /healthz`
answers over plain HTTP, without a key. All other requests to a server with a
key need the header `Authorization: Api-Key KEY`.

If the metadata has the key `parl`, a message may have it too. Its entry `call`
is then `sample`, `rows`, `train`, `save`, `load` or `status`; see `calls.py`.
"""

from concurrent import futures
import hmac
import http
import threading
import time
import traceback
from typing import (
    Any,
    Callable,
    Iterator,
    Mapping,
    NamedTuple,
    Optional,
    Union,
)

import numpy as np
from websockets import exceptions
from websockets import protocol
from websockets.sync import server as websocket_server

from parl_tf.serving import calls
from parl_tf.serving import log
from parl_tf.serving import messages
from parl_tf.serving import model_thread
from parl_tf.serving import policy_spec
from parl_tf.serving import weights as weights_lib

_LOOPBACK = ('127.0.0.1', '::1', 'localhost')
_INFER_SECONDS = 600.0
_FRAGMENT_BYTES = 2**18


class Policy(NamedTuple):
  """The functions that the author of a policy writes.

  Attributes:
    sample: Maps an observation `[B, ...]`, N and an integer seed to actions
      `[B, N, T, A]`. If the spec has `has_temperature`, also takes a keyword
      `temperature`, the scale of its noise: 1 if it is left out, and 0 for the
      policy's most likely action.
    train: Fits the policy to actions. Takes an observation `[R, ...]`, actions
      `[R, T, A]`, a mask `[R, T]`, the number of gradient steps and an integer
      seed. The mask is 0 for actions to ignore: those after the end of an
      episode, and those after the H actions that the client trains, if T is
      larger. Returns the losses as an array, or arrays by name, all of them
      finite. None if the policy cannot be trained.
    save: Writes the weights to a directory; None if they cannot be saved.
    load: Reads the weights from such a directory.
  """

  sample: Callable[..., Any]
  train: Optional[Callable[..., Any]] = None
  save: Optional[Callable[[str], None]] = None
  load: Optional[Callable[[str], None]] = None


def serve(
    sample: Callable[..., Any],
    train: Optional[Callable[..., Any]] = None,
    *,
    spec: policy_spec.PolicySpec,
    save: Optional[Callable[[str], None]] = None,
    load: Optional[Callable[[str], None]] = None,
    **options: Any,
) -> None:
  """Serves a policy until Ctrl-C; all functions run in the calling thread.

  Args:
    sample: See `Policy`.
    train: See `Policy`.
    spec: What the policy takes and returns.
    save: See `Policy`.
    load: See `Policy`.
    **options: Keyword arguments of `PolicyServer`.
  """
  log.show()
  server = PolicyServer(Policy(sample, train, save, load), spec, **options)
  # Programs of other frameworks seldom show messages of this level.
  print(  # noqa: T201
      f'Serving version {server.weights.version} at ws://{server.address}.',
      flush=True,
  )
  try:
    server.run()
  except KeyboardInterrupt:
    log.logger.info('Stopped.')


class PolicyServer:
  """A policy that other processes sample and train.

  Attributes:
    address: `host:port` on which it listens.
    weights: The version of the policy's weights.
  """

  def __init__(
      self,
      policy: Policy,
      spec: policy_spec.PolicySpec,
      *,
      host: str = '127.0.0.1',
      port: int = 8000,
      api_key: Optional[str] = None,
      version: str = weights_lib.UNNAMED,
      directory: Optional[str] = None,
      metadata: Optional[Mapping[str, Any]] = None,
      seed: Optional[int] = None,
      max_bytes: int = 256 * 2**20,
      max_training_bytes: int = 4 * 2**30,
  ):
    """Starts to listen; `run` answers.

    Args:
      policy: The policy's functions.
      spec: What the policy takes and returns.
      host: Address to listen on. Set a key unless it is a loopback address.
      port: Port to listen on; 0 selects a free one.
      api_key: Key that clients must send; None admits all clients.
      version: Name of the policy's current weights. A version is saved once, so
        that other weights in the same directory need another name, such as a
        digest of their file.
      directory: Where `save` writes versions of the weights; None disables
        saving and loading.
      metadata: Further metadata, for openpi clients.
      seed: Seed of the samples for plain openpi requests; None draws one.
      max_bytes: Maximum size of a message, in bytes.
      max_training_bytes: Maximum size of the data of one training, in bytes.

    Raises:
      ValueError: If `version` is not a valid name, `directory` is given but the
        policy lacks `save` or `load`, or `spec` or `metadata` has a value that
        no message can carry.
    """
    self._spec = spec
    self._metadata = dict(metadata or {})
    self._max_training_bytes = max_training_bytes
    self._api_key = api_key
    self._max_bytes = max_bytes
    self._seeds = np.random.default_rng(seed)
    self._model = model_thread.ModelThread()
    self.weights = weights_lib.Weights(
        version, directory=directory, save=policy.save, load=policy.load
    )
    if directory is None and (policy.save or policy.load):
      log.logger.warning(
          '`save` and `load` have no effect, because `directory` is None: no'
          ' version of the weights will be saved.'
      )
    # A version that the author names identifies the weights. Saving a large
    # policy only to compare it would delay each restart.
    if version == weights_lib.UNNAMED and self.weights.differ_from_saved():
      log.logger.warning(
          '%s has another version %r: its files differ from what `save` writes'
          ' now. If the weights differ, too, give them another `version`, such'
          ' as a digest of their file; if not, any `version` ends the warning.',
          directory,
          version,
      )
    self._calls = calls.Calls(
        policy, spec, self.weights, self._model, max_training_bytes
    )
    self._sample = policy.sample
    try:
      messages.pack(self._describe())
    except messages.MessageError as error:
      raise ValueError(
          f'`spec` and `metadata` must be sent: {error}'
      ) from error
    self._server = websocket_server.serve(
        self._converse,
        host,
        port,
        compression=None,
        max_size=max_bytes,
        process_request=self._admit,
        # A client may be busy for a while, for example compiling.
        ping_timeout=120,
    )
    port = self._server.socket.getsockname()[1]
    self.address = f'{host}:{port}'
    if host not in _LOOPBACK and api_key is None:
      log.logger.warning(
          'Anyone who can reach %s can use and train this policy. Set a key.',
          self.address,
      )

  def run(self) -> None:
    """Runs the policy in this thread until `close` is called in another."""
    listener = threading.Thread(target=self._server.serve_forever, daemon=True)
    listener.start()
    try:
      self._model.run()
    finally:
      self._server.shutdown()
      listener.join()

  def close(self) -> None:
    """Ends `run` after the calls already queued."""
    self._model.close()

  def _admit(self, connection, request):
    """Answers `/healthz` and refuses connections without the key."""
    if request.path == '/healthz':
      return connection.respond(http.HTTPStatus.OK, 'OK\n')
    if self._api_key is not None:
      given = request.headers.get('Authorization', '')
      wanted = f'Api-Key {self._api_key}'
      if not hmac.compare_digest(given.encode(), wanted.encode()):
        return connection.respond(
            http.HTTPStatus.UNAUTHORIZED, 'The API key is missing or wrong.\n'
        )
    return None

  def _converse(self, connection) -> None:
    """Answers the messages of one connection, in its own thread."""
    session = calls.Session(
        lambda: connection.state is protocol.State.OPEN
    )
    try:
      connection.send(messages.pack(self._describe()))
      total_ms = None
      for message in connection:
        start = time.monotonic()
        connection.send(_fragments(self._answer(message, session, total_ms)))
        total_ms = 1000.0 * (time.monotonic() - start)
    except exceptions.ConnectionClosed as error:
      # Many programs end without closing it: not worth a line of the log.
      log.logger.debug('A connection closed: %s', error)
    except futures.CancelledError:
      pass  # The client is gone or the server closes.

  def _describe(self) -> Mapping[str, Any]:
    """Returns the metadata of a new connection."""
    return {
        **self._metadata,
        'parl': {
            **self._spec.to_message(),
            'protocol': policy_spec.PROTOCOL,
            'version': self.weights.version,
            'can_train': self._calls.can_train,
            'can_save': self.weights.directory is not None,
            'max_bytes': self._max_bytes,
            'max_training_bytes': self._max_training_bytes,
        },
    }

  def _answer(self, message, session, total_ms):
    """Returns the answer to a message: bytes, or text for an error."""
    try:
      if isinstance(message, str):
        raise messages.MessageError('A message must be binary, got text.')
      request = messages.unpack(message)
      if not isinstance(request, dict):
        raise messages.MessageError(
            f'A message must be a map, got {type(request).__name__}.'
        )
      if 'parl' in request:
        return messages.pack(self._calls.answer(request, session))
      return messages.pack(self._infer(request, session, total_ms))
    except futures.CancelledError:
      raise
    except Exception:  # noqa: BLE001
      # The client also receives errors of the policy.
      log.logger.exception('A call failed.')
      return traceback.format_exc()

  def _infer(self, observation, session, total_ms):
    """Answers a plain observation, as openpi's server does."""
    observation = self._spec.checked_observation(observation, 0)
    batched = {
        name: np.asarray(x)[np.newaxis] for name, x in observation.items()
    }
    timing = {}

    def draw():
      start = time.monotonic()
      seed = int(self._seeds.integers(2**31))
      actions = self._sample(batched, 1, seed)
      timing['infer_ms'] = 1000.0 * (time.monotonic() - start)
      return self._spec.checked_actions(actions, (1, 1), '`sample`')

    actions = self._model.call(draw, _INFER_SECONDS, session.is_wanted)
    if total_ms is not None:
      timing['prev_total_ms'] = total_ms
    return {'actions': actions[0, 0], 'server_timing': timing}


def _fragments(
    answer: Union[str, bytes]
) -> Union[str, bytes, Iterator[bytes]]:
  """Divides an answer, so that pings are answered while a slow link sends it.

  Otherwise the client takes the server for dead.
  """
  if isinstance(answer, str) or len(answer) <= _FRAGMENT_BYTES:
    return answer

  def divide():
    for start in range(0, len(answer), _FRAGMENT_BYTES):
      if start:
        time.sleep(1e-4)  # Leaves the connection to the thread that pongs.
      yield answer[start : start + _FRAGMENT_BYTES]

  return divide()
