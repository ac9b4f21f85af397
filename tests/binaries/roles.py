"""Starts, kills and waits for the processes of a distributed run in tests."""

import os
import subprocess
import time
from typing import Callable, Dict, List, Sequence

from parl_tf.distributed import launcher
from tests import programs
from tests.binaries import tiny

_MODULES = {
    'service': 'reverb_server.server',
    'learner': 'parl_tf.binaries.learn',
    'collector': 'parl_tf.binaries.collect',
}
_SECONDS = 600.0  # Timeout, with room for a busy machine.


class Roles:
  """All processes of one run, by name: `service`, `learner`, `collector_0`."""

  def __init__(self, root_dir: str, bindings: Sequence[str] = ()):
    """Creates the object without starting a process.

    Args:
      root_dir: The run's directory; what a role prints is appended to
        `<name>.log` in it.
      bindings: Added to the bindings and cheap parts of `tiny`.
    """
    self.root_dir = root_dir
    self.port = launcher.free_port()
    self._bindings = (*tiny.BINDINGS, *tiny.CHEAP_PARTS, *bindings)
    self._programs: Dict[str, programs.Program] = {}
    os.makedirs(root_dir, exist_ok=True)

  def start(self, name: str) -> None:
    """Starts a role, or restarts it after a kill."""
    kind, _, number = name.partition('_')
    arguments = [f'--root_dir={self.root_dir}', f'--gin_file={tiny.GIN_FILE}']
    arguments += ['--gin_file=distributed.gin']
    arguments += [f'--gin_bindings={x}' for x in self._bindings]
    if kind == 'service':
      arguments += [f'--port={self.port}']
    else:
      arguments += [f'--replay=localhost:{self.port}', '--seed=3']
    if number:
      arguments += [f'--collector={number}']
    self._programs[name] = programs.Program(
        _MODULES[kind], *arguments, output=self._log(name)
    )

  def kill(self, name: str) -> None:
    """Sends SIGKILL."""
    program = self._programs.pop(name)
    program.kill()
    program.wait()

  def stop(self) -> None:
    """Stops all running roles."""
    for program in self._programs.values():
      program.terminate()
    for program in self._programs.values():
      try:
        program.wait(20.0)
      except subprocess.TimeoutExpired:
        program.kill()
        program.wait()

  def finish(self, name: str) -> None:
    """Waits until a role exits.

    Raises:
      AssertionError: If it fails.
    """
    status = self._programs[name].wait(_SECONDS)
    if status:
      raise AssertionError(f'{name} ended with {status}:\n{self.output(name)}')

  def wait_until(self, is_time: Callable[[], bool]) -> None:
    """Waits until `is_time` returns true.

    Raises:
      AssertionError: If a role ends first, or the wait times out.
    """
    deadline = time.monotonic() + _SECONDS
    while not is_time():
      for name, program in self._programs.items():
        if program.poll() is not None or time.monotonic() > deadline:
          raise AssertionError(
              f'The awaited condition never held:\n{self.output(name)}'
          )
      time.sleep(0.02)

  def num_rows(self, phase: str) -> int:
    """Returns the number of rows of a phase that the learner has written."""
    path = os.path.join(self.root_dir, 'learner', 'metrics.csv')
    if not os.path.exists(path):
      return 0
    with open(path, encoding='utf-8') as file:
      return sum(line.startswith(f'{phase},') for line in file)

  def episodes(self, *place: str) -> List[str]:
    """Returns the names of the episodes in a folder of the run."""
    folder = os.path.join(self.root_dir, *place)
    return sorted(n for n in os.listdir(folder) if n.endswith('.npz'))

  def output(self, name: str) -> str:
    """Returns the output of all processes of a role."""
    with open(self._log(name), encoding='utf-8') as file:
      return file.read()

  def _log(self, name):
    return os.path.join(self.root_dir, f'{name}.log')
