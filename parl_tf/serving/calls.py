"""The calls that extend openpi's protocol.

A request is a map with the observations `[B, ...]` and the key `parl`, a map
with `call` and its arguments. `version` is the version of the weights that the
client expects (optional except in `train`), `seconds` the time within which the
call must begin, and `client` the client's name (optional). The answer is a map
whose key `parl` has the current `version`, or, if the call is refused, `error`
with `kind` and `message`.

- `sample`: takes `samples` (N), `seed` and, if the spec has `has_temperature`,
  `temperature` (default 1); the answer has `actions` `[B, N, T, A]`.
- `rows`: stores observations, `actions` `[B, T, A]` and `mask` `[B, T]` for the
  next `train` on this connection, because the data may exceed one message.
- `train`: takes the last rows, `steps`, `seed` and `num_rows`, the total number
  of rows; the answer has `losses`.
- `save`: saves the current version.
- `load`: loads the version `name`.
- `status`: answers immediately, even during training, with the `saved` versions
  and the number of `waiting` calls.

Once a client has called `train` or `save`, those calls, and `load` of another
version, are refused to other clients until its connection closes.
"""

import hashlib
from typing import Any, Callable, Dict, List, Mapping, Optional

import numpy as np

from parl_tf.serving import log
from parl_tf.serving import messages
from parl_tf.serving import model_thread
from parl_tf.serving import policy_spec
from parl_tf.serving import trainer as trainer_lib
from parl_tf.serving import weights as weights_lib

ROWS_KEYS = ('actions', 'mask')
"""Keys of training rows that are not observations."""

_MAX_SAMPLES = 65_536
_MAX_SEED = 2**63


class Session:
  """The server's state for one connection.

  Attributes:
    is_wanted: Returns whether the connection is open.
    rows: Training rows stored for the next `train`.
  """

  def __init__(self, is_wanted: Callable[[], bool]):
    """Initializes a session without rows.

    Args:
      is_wanted: Returns whether the connection is open.
    """
    self.is_wanted = is_wanted
    self.rows: List[Dict[str, np.ndarray]] = []

  @property
  def num_bytes(self) -> int:
    """Size of the rows in bytes."""
    return sum(array.nbytes for rows in self.rows for array in rows.values())


class Calls:
  """Answers the calls of all connections.

  Attributes:
    can_train: Whether the policy can be trained.
  """

  def __init__(
      self,
      policy,
      spec: policy_spec.PolicySpec,
      weights: weights_lib.Weights,
      model: model_thread.ModelThread,
      max_training_bytes: int,
  ):
    """Initializes the calls.

    Args:
      policy: `server.Policy`.
      spec: What the policy takes and returns.
      weights: The version of its weights.
      model: Thread that calls the policy.
      max_training_bytes: Maximum size of the data of one training, in bytes.
    """
    self.can_train = policy.train is not None
    self._policy = policy
    self._spec = spec
    self._weights = weights
    self._model = model
    self._max_training_bytes = max_training_bytes
    self._trainer = trainer_lib.Trainer()
    # The last training, for a client that repeats its call because its
    # connection broke.
    self._repeatable: Optional[Mapping[str, Any]] = None
    self._calls = {
        'sample': self._sample,
        'rows': self._add_rows,
        'train': self._train,
        'save': self._save,
        'load': self._load,
        'status': self._status,
    }

  def answer(
      self, request: Dict[Any, Any], session: Session
  ) -> Mapping[str, Any]:
    """Answers a request with the key `parl`.

    Raises:
      MessageError: If `parl` is not a map.
      concurrent.futures.CancelledError: If the client is gone or the server
        closes.
    """
    arguments = request.pop('parl')
    if not isinstance(arguments, dict):
      raise messages.MessageError(
          f'`parl` must be a map, got {type(arguments).__name__}.'
      )
    name = arguments.get('call')
    if name not in self._calls:
      return _refusal(
          'invalid',
          f'`call` must be one of {sorted(self._calls)}, got {name!r}.',
      )
    self._trainer.meet(_client(arguments, session), session.is_wanted)
    try:
      reply = dict(self._calls[name](arguments, request, session))
    except weights_lib.StaleVersionError as error:
      return _refusal('stale_version', str(error), version=error.version)
    except model_thread.DeadlineError:
      return _refusal(
          'deadline',
          f'`{name}` did not begin within {arguments["seconds"]} s; '
          f'{self._model.num_waiting} calls are waiting.',
      )
    except _IncompleteError as error:
      return _refusal('incomplete', str(error))
    except (
        _InvalidError, trainer_lib.TakenError, weights_lib.WeightsError
    ) as error:
      return _refusal('invalid', str(error))
    reply['parl'] = {'version': self._weights.version, **reply.get('parl', {})}
    return reply

  def _sample(self, arguments, observation, session):
    count = _integer(arguments, 'samples', 1, _MAX_SAMPLES)
    seed = _integer(arguments, 'seed', 0, _MAX_SEED - 1)
    options = self._temperature(arguments)
    observation = self._observation(observation, self._spec.max_batch)
    batch = (policy_spec.num_states(observation), count)

    def draw():
      self._weights.check(arguments.get('version'))
      actions = self._policy.sample(observation, count, seed, **options)
      return {
          'actions': self._spec.checked_actions(actions, batch, '`sample`'),
          'parl': {'version': self._weights.version},
      }

    return self._call(draw, arguments, session)

  def _temperature(self, arguments: Mapping[str, Any]) -> Dict[str, float]:
    """Returns the temperature as a keyword argument, if it is not 1."""
    temperature = arguments.get('temperature', 1.0)
    if not isinstance(temperature, (int, float)) or not (
        0.0 <= temperature < float('inf')
    ):
      raise _InvalidError(
          f'`temperature` must be at least 0, got {temperature!r}.'
      )
    if temperature == 1.0:
      return {}
    if not self._spec.has_temperature:
      raise _InvalidError(
          f'This policy has no temperature but 1, got {temperature}.'
      )
    return {'temperature': float(temperature)}

  def _add_rows(self, arguments, rows, session):
    del arguments
    self._check_trainable()
    session.rows.append(self._checked_rows(rows))
    if session.num_bytes > self._max_training_bytes:
      session.rows.clear()
      raise _InvalidError(
          'The rows of one training must not exceed '
          f'{self._max_training_bytes} bytes.'
      )
    return {}

  def _train(self, arguments, rows, session):
    steps = _integer(arguments, 'steps', 1, 2**31)
    seed = _integer(arguments, 'seed', 0, _MAX_SEED - 1)
    before = weights_lib.checked_name(arguments.get('version'))
    num_rows = _integer(arguments, 'num_rows', 1, 2**31)
    self._add_rows(arguments, rows, session)
    parts, session.rows = session.rows, []
    # One array at a time, so that few rows are in memory twice.
    rows = {
        name: np.concatenate([part.pop(name) for part in parts])
        for name in list(parts[0])
    }
    if len(rows['mask']) != num_rows:
      raise _IncompleteError(
          f'The training must have {num_rows} rows, got {len(rows["mask"])}.'
      )
    digest = _digest(rows, steps, seed)

    def fit():
      done = self._repeatable
      if done and done['key'] == (before, digest) and (
          done['version'] == self._weights.version
      ):
        return {
            'losses': done['losses'], 'parl': {'version': done['version']}
        }
      self._weights.check(before)
      self._take(arguments, session)
      after = weights_lib.trained(before, digest)
      observation = {
          name: x for name, x in rows.items() if name not in ROWS_KEYS
      }
      task = f'Training ({steps} steps, {num_rows} rows)'
      with log.timed(task, lambda: self._weights.version):
        with self._weights.replaced_by(after):
          losses = _checked_losses(self._policy.train(
              observation, rows['actions'], rows['mask'], steps, seed
          ))
      self._repeatable = {
          'key': (before, digest), 'version': after, 'losses': losses
      }
      return {'losses': losses, 'parl': {'version': after}}

    return self._call(fit, arguments, session)

  def _save(self, arguments, unused_observation, session):
    def save():
      self._weights.check(arguments.get('version'))
      self._take(arguments, session)
      self._weights.save()
      return {}

    return self._call(save, arguments, session)

  def _load(self, arguments, unused_observation, session):
    def load():
      version = self._weights.version
      if arguments.get('name') != version:
        self._trainer.check(_client(arguments, session), version)
      self._weights.load(arguments.get('name'))
      return {}

    return self._call(load, arguments, session)

  def _status(self, arguments, unused_observation, unused_session):
    del arguments
    return {
        'saved': self._weights.saved(), 'waiting': self._model.num_waiting
    }

  def _call(self, function, arguments, session):
    seconds = arguments.setdefault('seconds', 600.0)
    if not isinstance(seconds, (int, float)) or not seconds > 0:
      raise _InvalidError(f'`seconds` must be positive, got {seconds!r}.')
    return self._model.call(function, seconds, session.is_wanted)

  def _take(self, arguments, session):
    """Makes a client the one that trains."""
    self._trainer.take(
        _client(arguments, session), session.is_wanted, self._weights.version
    )

  def _check_trainable(self):
    if not self.can_train:
      raise _InvalidError('This policy cannot be trained.')

  def _observation(self, observation, max_batch=None):
    checked = _refusing_values(
        lambda: self._spec.checked_observation(observation, 1)
    )
    size = _refusing_values(lambda: policy_spec.num_states(checked))
    if max_batch is not None and size > max_batch:
      raise _InvalidError(
          f'A call may have at most {max_batch} states, got {size}.'
      )
    return checked

  def _checked_rows(self, rows):
    """Validates training rows and returns their arrays."""
    missing = [key for key in ROWS_KEYS if key not in rows]
    if missing:
      raise _InvalidError(f'Training rows must have {list(ROWS_KEYS)}.')
    observation = self._observation({
        name: x for name, x in rows.items() if name not in ROWS_KEYS
    })
    size = policy_spec.num_states(observation)
    actions = _refusing_values(
        lambda: self._spec.checked_actions(rows['actions'], (size,), '`rows`')
    )
    mask = np.asarray(rows['mask'], np.float32)
    if mask.shape != actions.shape[:2]:
      raise _InvalidError(
          f'`mask` must have shape {list(actions.shape[:2])}, got '
          f'{list(mask.shape)}.'
      )
    return {**observation, 'actions': actions, 'mask': mask}


class _InvalidError(ValueError):
  """A call with invalid arguments."""


class _IncompleteError(ValueError):
  """A training without all of its rows: the connection broke between them."""


def _client(arguments: Mapping[str, Any], session: Session) -> Any:
  """Returns a client's name, or its session if it gives none."""
  name = arguments.get('client')
  return name if isinstance(name, str) else session


def _refusing_values(function: Callable[[], Any]) -> Any:
  """Calls a function and turns its `ValueError` into a refusal of the call."""
  try:
    return function()
  except ValueError as error:
    raise _InvalidError(str(error)) from error


def _refusal(kind: str, message: str, **entries: Any) -> Dict[str, Any]:
  return {'parl': {'error': {'kind': kind, 'message': message, **entries}}}


def _integer(
    arguments: Mapping[str, Any], name: str, least: int, most: int
) -> int:
  value = arguments.get(name)
  if type(value) is not int or not least <= value <= most:
    raise _InvalidError(
        f'`{name}` must be an integer from {least} to {most}, got {value!r}.'
    )
  return value


def _digest(rows: Mapping[str, np.ndarray], steps: int, seed: int) -> str:
  """Returns a digest of the arguments of a training."""
  sha = hashlib.sha256(f'{steps} {seed}'.encode())
  for name in sorted(rows):
    array = np.ascontiguousarray(rows[name])
    sha.update(f'{name} {array.shape} {array.dtype.str}'.encode())
    sha.update(array.data.cast('B') if array.size else b'')
  return sha.hexdigest()


def _checked_losses(losses: Any) -> Dict[str, np.ndarray]:
  """Returns the losses that `train` returned, as float32 arrays by name.

  Raises:
    ValueError: If there are none, or one is not finite.
  """
  if not isinstance(losses, Mapping):
    losses = {'loss': losses}
  arrays = {
      name: np.asarray([] if x is None else x, np.float32)
      for name, x in losses.items()
  }
  for name, array in arrays.items():
    if not array.size:
      raise ValueError(f'`train` must return its losses, got no {name!r}.')
    wrong = np.argwhere(~np.isfinite(array))
    if len(wrong):
      raise ValueError(
          f'`train` must return finite losses, got {name!r} ='
          f' {array[tuple(wrong[0])]} at {wrong[0].tolist()} of shape'
          f' {list(array.shape)}: the weights are probably lost, too.'
      )
  return arrays
