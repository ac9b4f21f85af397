"""A client for policy servers: ours and others that speak openpi's protocol."""

import hashlib
import os
import socket
import types
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Type

import numpy as np

from parl_tf.serving import connection as connection_lib
from parl_tf.serving import messages
from parl_tf.serving import policy_spec
from parl_tf.serving import weights

# A message is slightly larger than its arrays.
_OVERHEAD_BYTES = 65_536


class RefusedError(ValueError):
  """A call that the server refused."""


class _IncompleteError(RefusedError):
  """A training whose rows did not all arrive."""


class Samples(NamedTuple):
  """Actions drawn from a policy.

  Attributes:
    actions: `[B, N, T, A]` float32, in the environment's units.
    version: Version of the weights that drew them.
  """

  actions: np.ndarray
  version: str


class Training(NamedTuple):
  """Result of a training.

  Attributes:
    losses: Arrays by name.
    version: Version of the weights after the training.
  """

  losses: Mapping[str, np.ndarray]
  version: str


class PolicyClient:
  """Samples and trains the policy of one server.

  Attributes:
    address: The server's `ws://host:port`.
    spec: What the policy takes and returns; None if the server lacks our
      extension.
    name: Tells the server who trains its policy.
  """

  def __init__(
      self,
      address: str,
      *,
      api_key: Optional[str] = None,
      patience_seconds: float = 10.0,
      call_seconds: float = 60.0,
      silence_seconds: float = 7.0,
      max_bytes: int = 256 * 2**20,
  ):
    """Connects to the server.

    Args:
      address: `host:port`, or a URL that begins with ws:// or wss://.
      api_key: Key of the server, or None.
      patience_seconds: Seconds to wait for a server that does not answer.
      call_seconds: Deadline in seconds of calls other than `train`, `save` and
        `load`, which take as long as the policy's author needs. It includes
        sending, and, if `patience_seconds` is shorter, waiting for a server.
      silence_seconds: See `connection.Connection`.
      max_bytes: Maximum size of a received message, in bytes.

    Raises:
      ConnectionError: If no server answers in time.
      PermissionError: If the server refuses the key.
      ValueError: If its metadata is invalid.
    """
    self.name = f'process {os.getpid()} on {socket.gethostname()}'
    self._call_seconds = call_seconds
    self._connection = connection_lib.Connection(
        address,
        api_key=api_key,
        patience_seconds=patience_seconds,
        silence_seconds=silence_seconds,
        max_bytes=max_bytes,
    )
    self.address = self._connection.address
    extension = self.metadata.get('parl')
    self.spec: Optional[policy_spec.PolicySpec] = None
    if extension is not None:
      if extension.get('protocol') != policy_spec.PROTOCOL:
        raise ValueError(
            f'{self.address} must speak version {policy_spec.PROTOCOL} of the '
            f'protocol, got {extension.get("protocol")!r}.'
        )
      self.spec = policy_spec.PolicySpec.from_message(extension)

  @property
  def metadata(self) -> Mapping[str, Any]:
    """The server's metadata at the latest connection."""
    return self._connection.metadata

  @property
  def can_train(self) -> bool:
    """Whether the server can train its policy."""
    return self.spec is not None and self.metadata['parl']['can_train']

  @property
  def can_save(self) -> bool:
    """Whether the server can save versions of the weights."""
    return self.spec is not None and self.metadata['parl']['can_save']

  def infer(self, observation: Mapping[str, Any]) -> Dict[str, Any]:
    """Returns the answer to one observation, with `actions` `[T, A]`.

    Raises:
      ConnectionError: If the server does not answer.
      MessageError: If the answer is malformed or has no `actions`.
      PolicyServerError: If the policy raises an error.
      TimeoutError: If the deadline passes.
    """
    answer = self._connection.ask(
        messages.pack(dict(observation)), 'infer', self._call_seconds
    )
    if not isinstance(answer, dict) or 'actions' not in answer:
      raise messages.MessageError(
          f'{self.address} must answer with `actions`, got {answer!r}.'
      )
    return answer

  def sample(
      self,
      observation: Mapping[str, Any],
      num_samples: int,
      seed: int,
      version: Optional[str] = None,
      temperature: float = 1.0,
  ) -> Samples:
    """Draws actions at a batch of states.

    A batch that exceeds the server's maximum is sent in pieces. A server
    without our extension is asked for one action at a time; it takes no seed,
    and its version is a digest of its metadata.

    Args:
      observation: Arrays `[B, ...]` by name.
      num_samples: N.
      seed: Non-negative integer.
      version: Required version of the weights; None accepts any.
      temperature: Scale of the policy's noise.

    Raises:
      ConnectionError: If the server does not answer.
      PolicyServerError: If the policy raises an error.
      RefusedError: If the server refuses the call.
      StaleVersionError: If the server has another version.
      TimeoutError: If the deadline passes.
      ValueError: If the policy has no such temperature.
    """
    size = policy_spec.num_states(observation)
    if not size:
      raise ValueError('`observation` must have at least one state, got none.')
    options = {}
    if temperature != 1.0:
      # A server of an earlier version would ignore it.
      if self.spec is None or not self.spec.has_temperature:
        raise ValueError(
            f'The policy at {self.address} has no temperature but 1, got '
            f'{temperature}. Its author can add one: see `Policy.sample` in '
            'parl_tf/serving/server.py.'
        )
      options['temperature'] = float(temperature)
    if self.spec is None:
      return self._sample_singly(observation, size, num_samples, version)
    actions = []
    step = self.piece_size(observation)
    for start in range(0, size, step):
      piece = {
          name: np.asarray(x)[start : start + step]
          for name, x in observation.items()
      }
      answer = self._call(
          'sample',
          piece,
          samples=num_samples,
          seed=seed if size <= step else piece_seed(seed, start),
          version=version,
          **options,
      )
      version = answer['parl']['version']  # Also required of later pieces.
      batch = (min(step, size - start), num_samples)
      actions.append(
          self.spec.checked_actions(answer['actions'], batch, self.address)
      )
    return Samples(np.concatenate(actions), answer['parl']['version'])

  def piece_size(self, observation: Mapping[str, Any]) -> int:
    """Returns how many states a message may have; needs our extension.

    Args:
      observation: Arrays `[B, ...]` by name.
    """
    limit = self._require_extension()['max_bytes'] - _OVERHEAD_BYTES
    num_bytes = sum(np.asarray(x).nbytes for x in observation.values())
    size = policy_spec.num_states(observation)
    max_batch = size if self.spec is None else self.spec.max_batch
    return min(max_batch, max(1, limit * size // max(num_bytes, 1)))

  def train(
      self,
      observation: Mapping[str, Any],
      actions: np.ndarray,
      *,
      num_steps: int,
      seed: int,
      version: Optional[str],
      mask: Optional[np.ndarray] = None,
      seconds: Optional[float] = None,
  ) -> Training:
    """Fits the policy to actions; returns the losses and the new version.

    Repeating the call with the same arguments returns the same result without
    training again, as long as the weights have not changed since.

    Args:
      observation: Arrays `[R, ...]` by name.
      actions: `[R, T, A]`, in the environment's units.
      num_steps: Gradient steps.
      seed: Non-negative integer.
      version: Version of the weights to start from.
      mask: `[R, T]`, 0 for actions after the end of an episode; None fits all.
      seconds: Deadline in seconds; None waits as long as the server is alive.

    Raises:
      ConnectionError: If the server does not answer.
      PolicyServerError: If the policy raises an error.
      RefusedError: If the server refuses the call.
      StaleVersionError: If the server has another version.
      TimeoutError: If the deadline passes.
    """
    actions = np.asarray(actions, np.float32)
    if mask is None:
      mask = np.ones(actions.shape[:2], np.float32)
    rows = {**observation, 'actions': actions, 'mask': mask}
    size = policy_spec.num_states(rows)
    if not size:
      raise ValueError('`actions` must have at least one row, got none.')
    row_bytes = sum(np.asarray(x).nbytes for x in rows.values()) // size
    limit = self._require_extension()['max_bytes'] - _OVERHEAD_BYTES
    step = max(1, limit // max(1, row_bytes))
    pieces = [
        {name: x[start : start + step] for name, x in rows.items()}
        for start in range(0, size, step)
    ]
    arguments = dict(
        steps=num_steps, seed=seed, version=version, num_rows=size
    )
    try:
      answer = self._send_training(pieces, seconds, arguments)
    except _IncompleteError:  # The connection broke between two pieces.
      answer = self._send_training(pieces, seconds, arguments)
    return Training(answer['losses'], answer['parl']['version'])

  def save(self, version: str) -> None:
    """Saves the weights on the server, which must have this version."""
    self._call('save', seconds=None, version=version)

  def load(self, version: str) -> None:
    """Makes the server load a saved version."""
    self._call('load', seconds=None, name=version)

  def status(self) -> Mapping[str, Any]:
    """Returns `version`, `saved` versions and the number of `waiting` calls."""
    answer = self._call('status')
    return {
        'version': answer['parl']['version'],
        'saved': answer['saved'],
        'waiting': answer['waiting'],
    }

  def close(self) -> None:
    """Closes the connection; the next call opens another one."""
    self._connection.close()

  def __enter__(self) -> 'PolicyClient':
    return self

  def __exit__(
      self,
      kind: Optional[Type[BaseException]],
      error: Optional[BaseException],
      trace: Optional[types.TracebackType],
  ) -> None:
    self.close()

  def _send_training(self, pieces, seconds, arguments):
    for piece in pieces[:-1]:
      self._call('rows', piece, seconds)  # Large: a slow link needs minutes.
    return self._call('train', pieces[-1], seconds, **arguments)

  def _require_extension(self) -> Mapping[str, Any]:
    if self.spec is None:
      raise RefusedError(
          f'{self.address} speaks plain openpi, which supports only sampling.'
      )
    return self.metadata['parl']

  def _call(self, call, rows=None, seconds=0.0, **arguments):
    """Makes a call of the extension; `seconds` 0 is the default deadline."""
    max_bytes = self._require_extension()['max_bytes']
    if seconds == 0.0:
      seconds = self._call_seconds
    arguments = {k: v for k, v in arguments.items() if v is not None}
    # Without a deadline, a call may queue indefinitely behind other trainings.
    arguments['seconds'] = seconds or 1e9
    request = {'call': call, 'client': self.name, **arguments}
    message = messages.pack({**(rows or {}), 'parl': request})
    if len(message) > max_bytes:
      raise RefusedError(
          f'`{call}` has {len(message)} bytes, but {self.address} accepts at '
          f'most {max_bytes}.'
      )
    answer = self._connection.ask(message, call, seconds)
    extension = answer.get('parl') if isinstance(answer, dict) else None
    if not isinstance(extension, dict):
      raise messages.MessageError(
          f'{self.address} must answer `{call}` with the key `parl`.'
      )
    refusal = extension.get('error')
    if refusal is None:
      return answer
    text = f'{self.address} refused `{call}`: {refusal["message"]}'
    if refusal['kind'] == 'stale_version':
      raise weights.StaleVersionError(text, refusal['version'])
    if refusal['kind'] == 'deadline':
      raise TimeoutError(text)
    if refusal['kind'] == 'incomplete':
      raise _IncompleteError(text)
    raise RefusedError(text)

  def _sample_singly(self, observation, size, num_samples, version):
    """Draws one action at a time from a server without our extension."""
    if version is not None:
      self._check_metadata(version)
    actions: List[List[np.ndarray]] = []
    for row in range(size):
      single = {name: np.asarray(x)[row] for name, x in observation.items()}
      single = {
          name: x.item() if x.dtype.kind == 'U' else x
          for name, x in single.items()
      }
      actions.append([])
      for _ in range(num_samples):
        actions[-1].append(self.infer(single)['actions'])
        # The first call may meet a server that was restarted, others must not.
        version = version or metadata_version(self.metadata)
        self._check_metadata(version)
    drawn = np.asarray(actions, np.float32)
    if drawn.ndim != 4 or not np.isfinite(drawn).all():
      raise messages.MessageError(
          f'{self.address} must answer with finite `actions` [T, A], got shape '
          f'{list(drawn.shape[2:])}.'
      )
    return Samples(drawn, version or metadata_version(self.metadata))

  def _check_metadata(self, version):
    actual = metadata_version(self.metadata)
    if version != actual:
      raise weights.StaleVersionError(
          f'{self.address} has metadata {actual!r}, but {version!r} was '
          'expected.', actual
      )


def metadata_version(metadata: Mapping[str, Any]) -> str:
  """Returns the version of a server without our extension.

  It is a digest of the metadata, because such a server does not report the
  version of its weights.
  """
  digest = hashlib.sha256(messages.pack(dict(metadata))).hexdigest()
  return f'metadata-{digest[:12]}'


def piece_seed(seed: int, start: int) -> int:
  """Returns the seed of a piece of a batch, which begins at a state."""
  digest = hashlib.sha256(f'{seed} {start}'.encode()).digest()
  return int.from_bytes(digest[:8], 'little') >> 1
