"""Keeps the roles of a run alive, each in its own Ray actor.

Ray places the actors on the machines of its cluster and reports actors that are
lost with their machine. Each actor runs a command that can also be run by hand.
"""

import json
import os
import time
from typing import Any, Dict, Mapping, NamedTuple, Optional, Sequence, Tuple

from absl import logging
import ray
from ray.util import scheduling_strategies

from parl_tf import synced_file
from parl_tf.distributed import role_process

_FIRST_DELAY_SECONDS = 1.0
_MAX_DELAY_SECONDS = 60.0
# A role that has run this long did not fail at startup.
_HEALTHY_SECONDS = 60.0
# A role that has failed at startup as often, in the same way each time, will
# not succeed.
_MAX_STARTS = 5
_ANSWER_SECONDS = 30.0
_MAX_LINE = 500  # Bytes of a log that a warning quotes.
# Ray places actors that reserve no core on random machines.
_LEAST_CPUS = 0.001


class Role(NamedTuple):
  """A process to keep running.

  Attributes:
    name: Name of the role and of its log file.
    command: Program and arguments.
    num_cpus: Cores that Ray reserves for it; at least a thousandth if Ray may
      choose the machine.
    num_gpus: GPUs that Ray reserves for it and makes visible to it.
    is_here: Whether it must run on the machine of the driver. For the other
      roles Ray chooses a machine; a role stays there, because its files do.
    may_end: Whether exit status 0 ends the role; if not, it is restarted.
    environment: Environment variables of this role.
  """

  name: str
  command: Sequence[str]
  num_cpus: float = 0.0
  num_gpus: float = 0.0
  is_here: bool = False
  may_end: bool = True
  environment: Mapping[str, str] = {}


class _Actor(role_process.RoleProcess):
  """A process and the machine it runs on."""

  def observe_and_locate(self, start: int) -> Tuple[Optional[int], bytes, str]:
    """Returns `observe` and Ray's id of the machine."""
    node_id = ray.get_runtime_context().get_node_id()
    return *self.observe(start), node_id


class Supervisor:
  """Starts roles and restarts those that fail."""

  def __init__(
      self,
      roles: Sequence[Role],
      log_dir: str,
      environment: Optional[Mapping[str, str]] = None,
  ):
    """Starts all roles; Ray must be initialized.

    Args:
      roles: The roles.
      log_dir: Directory for the output of each role.
      environment: Environment variables of all roles.
    """
    os.makedirs(log_dir, exist_ok=True)
    places = _Places(log_dir)
    self._watched = {
        role.name: _Watched(role, log_dir, environment or {}, places)
        for role in roles
    }

  def step(self) -> None:
    """Collects output and restarts the roles that are due.

    Raises:
      ValueError: If a role that never ran for a minute has exited with the same
        last line of output five times in a row.
    """
    for watched in self._watched.values():
      watched.step()

  def has_ended(self, name: str) -> bool:
    """Returns whether a role has ended without error or was stopped."""
    return self._watched[name].has_ended

  def num_restarts(self) -> Dict[str, int]:
    """Returns the number of restarts of each restarted role."""
    return {
        name: watched.num_restarts
        for name, watched in self._watched.items()
        if watched.num_restarts
    }

  def stop(self, name: str) -> None:
    """Stops a role without restarting it."""
    self._watched[name].stop()


class _Places:
  """The machine of each role, stored in a file for later launches."""

  def __init__(self, directory):
    self._path = os.path.join(directory, 'hosts.json')
    self._hosts: Dict[str, str] = {}
    if os.path.exists(self._path):
      with open(self._path, encoding='utf-8') as file:
        try:
          self._hosts = json.load(file)
        except ValueError as error:
          raise ValueError(f'{self._path}: must be JSON: {error}') from error

  def find(self, role: str) -> Optional[str]:
    """Returns Ray's id of the machine of a role, or None."""
    for node in ray.nodes():
      if node['Alive'] and node['NodeManagerAddress'] == self._hosts.get(role):
        return node['NodeID']
    return None

  def note(self, role: str, node_id: str) -> None:
    """Stores where a role runs; logs an error if the disk is full."""
    (host,) = [
        node['NodeManagerAddress']
        for node in ray.nodes()
        if node['NodeID'] == node_id
    ]
    before = self._hosts.get(role)
    if host == before:
      return
    if before is not None:
      logging.warning(
          '%s now runs on %s; its earlier files remain on %s.',
          role, host, before,
      )
    self._hosts[role] = host
    try:
      with synced_file.write(self._path) as file:
        file.write(json.dumps(self._hosts, indent=2).encode())
    except OSError as error:
      logging.error('The machines of the roles cannot be stored: %s', error)


def restart_delay(num_failures: int) -> float:
  """Returns the seconds before a restart.

  Args:
    num_failures: Number of earlier failures in a row.
  """
  # Bounded, because a float cannot hold 2 to the power of 1,024.
  doublings = min(num_failures, 16)
  return min(_FIRST_DELAY_SECONDS * 2**doublings, _MAX_DELAY_SECONDS)


class _Watched:
  """One role, its actor and the time of its next restart."""

  def __init__(self, role, log_dir, environment, places):
    self._role = role
    self._log_path = os.path.join(log_dir, f'{role.name}.log')
    self._environment = {**environment, **role.environment}
    self._places = places
    self.has_ended = False
    self.num_restarts = 0
    self._num_failures = 0
    self._was_healthy = False
    self._num_equal_ends = 0
    self._last_end = ''
    self._is_placed = False
    self._num_read = 0
    self._start_at: Optional[float] = None
    self._question: Optional[ray.ObjectRef] = None
    self._start()

  def step(self) -> None:
    if self.has_ended:
      return
    if self._start_at is not None:
      if time.monotonic() >= self._start_at:
        self.num_restarts += 1
        self._start()
      return
    # A role that does not answer must not delay the others.
    if self._question is None:
      self._question = self._actor.observe_and_locate.remote(self._num_read)
      self._asked_at = time.monotonic()
    if not ray.wait([self._question], timeout=0)[0]:
      self._miss_answer()
      return
    try:
      status, text, node_id = ray.get(self._question)
    except ray.exceptions.RayError as error:
      # The machine failed, or Ray killed the role because memory ran out.
      self._num_equal_ends = 0
      self._fail(f'Ray lost the process: {error}')
      return
    self._question = None
    if not self._is_placed:
      self._is_placed = True
      self._started_at = time.monotonic()
      if not self._role.is_here:
        self._places.note(self._role.name, node_id)
    self._gather(text)
    if status == 0 and self._role.may_end:
      self._end()
    elif status is None:
      self._was_healthy |= self._is_healthy()
    else:
      self._check_ends(status)
      self._fail(f'status {status}')

  def stop(self) -> None:
    if self.has_ended:
      return
    if self._start_at is None and self._is_placed:
      try:
        self._ask(self._actor.stop)
        self._gather(self._ask(self._actor.read, self._num_read))
      except ray.exceptions.RayError as error:
        logging.warning('%s had already ended: %s', self._role.name, error)
    self._end()

  def _start(self) -> None:
    self._start_at = None
    self._started_at = time.monotonic()
    self._question = None
    self._is_placed = False
    self._num_read = 0
    num_cpus = self._role.num_cpus
    if self._role.is_here:
      node_id = ray.get_runtime_context().get_node_id()
    else:
      node_id = self._places.find(self._role.name)
      num_cpus = max(num_cpus, _LEAST_CPUS)
    # Not `soft`, which could place an actor without cores on any machine. If
    # the machine has just left the cluster, Ray loses the actor, and the next
    # attempt uses another machine.
    strategy: Any = 'SPREAD'
    if node_id is not None:
      strategy = scheduling_strategies.NodeAffinitySchedulingStrategy(
          node_id, soft=False
      )
    self._actor: Any = (
        ray.remote(_Actor)
        .options(
            num_cpus=num_cpus,
            num_gpus=self._role.num_gpus,
            scheduling_strategy=strategy,
        )
        .remote(self._role.command, self._environment, os.getcwd())
    )

  def _end(self):
    self.has_ended = True
    ray.kill(self._actor)

  def _check_ends(self, status):
    """Raises ValueError if restarts do not help."""
    end = _last_line(self._log_path)
    # Another process ends a role by a signal, which has a negative number.
    is_equal = status > 0 and end == self._last_end
    self._num_equal_ends = self._num_equal_ends + 1 if is_equal else 1
    self._last_end = end
    if self._num_equal_ends == _MAX_STARTS and not self._was_healthy:
      raise ValueError(
          f'{self._role.name} ended {_MAX_STARTS} times shortly after its'
          f' start, status {status}. See {self._log_path}, which ends: {end}'
      )

  def _is_healthy(self):
    """Returns whether the process has run for a minute."""
    return time.monotonic() - self._started_at >= _HEALTHY_SECONDS

  def _fail(self, reason):
    ray.kill(self._actor)
    if self._is_healthy():
      self._num_failures = 0
    delay = restart_delay(self._num_failures)
    self._num_failures += 1
    self._start_at = time.monotonic() + delay
    logging.warning(
        '%s ended, %s; restarting it in %.0f s. See %s, which ends: %s',
        self._role.name,
        reason,
        delay,
        self._log_path,
        _last_line(self._log_path),
    )

  def _miss_answer(self):
    """Fails a role that stopped answering; waits if it has no machine yet."""
    if time.monotonic() - self._asked_at < _ANSWER_SECONDS:
      return
    if self._is_placed:
      self._fail(f'its machine did not answer within {_ANSWER_SECONDS:.0f} s')
      return
    self._asked_at = time.monotonic()
    logging.warning(
        '%s waits for a machine of the cluster with %g cores and %g GPUs free.',
        self._role.name,
        self._role.num_cpus,
        self._role.num_gpus,
    )

  def _gather(self, text):
    """Appends to the log of the role; logs an error if the disk is full."""
    self._num_read += len(text)
    if not text:
      return
    try:
      with open(self._log_path, 'ab') as log:
        log.write(text)
    except OSError as error:
      logging.error('The output of %s is lost: %s', self._role.name, error)

  def _ask(self, method, *arguments):
    return ray.get(method.remote(*arguments), timeout=_ANSWER_SECONDS)


def _last_line(path: str) -> str:
  """Returns the last line of a file, shortened; empty if there is none."""
  try:
    with open(path, 'rb') as file:
      file.seek(max(0, os.fstat(file.fileno()).st_size - _MAX_LINE))
      lines = file.read().decode(errors='replace').split('\n')
  except OSError:
    return ''
  return next((line for line in reversed(lines) if line.strip()), '')
