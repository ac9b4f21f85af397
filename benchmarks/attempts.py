"""Steps of a long benchmark that are done once, with all attempts at them."""

import json
import os
import sys
import time
from typing import Any, Callable, Dict, List, Mapping, Optional

from absl import flags

from parl_tf import synced_file


def check_settings(
    path: str, settings: Optional[Mapping[str, Any]] = None
) -> None:
  """Checks that earlier steps, if any, had the same settings.

  Args:
    path: File of the settings, JSON, which is written if it is missing.
    settings: Settings by name; None takes the flags of the benchmark.

  Raises:
    ValueError: If the file has another value of one of them.
  """
  settings = _flags() if settings is None else settings
  if os.path.exists(path):
    with open(path, encoding='utf-8') as file:
      earlier = json.load(file)
    changed = {
        name: (earlier[name], value)
        for name, value in settings.items()
        if name in earlier and earlier[name] != value
    }
    if changed:
      listed = ', '.join(
          f'{name} = {old!r}, now {new!r}'
          for name, (old, new) in changed.items()
      )
      raise ValueError(
          f'{path}: earlier steps had other settings: {listed}. Choose another'
          ' directory.'
      )
  with synced_file.write(path) as file:
    file.write(json.dumps(settings, indent=1).encode())


def _flags() -> Dict[str, Any]:
  """Returns the flags of the benchmark that its results depend on."""
  return {
      flag.name: flag.value
      for module, own in flags.FLAGS.flags_by_module_dict().items()
      if module.startswith('benchmarks.') or module == sys.argv[0]
      for flag in own
      if flag.name not in ('root_dir', 'seeds', 'port')
      and not flag.name.endswith('_python')
  }


class Attempts:
  """The attempts of a directory, also failed and killed ones, in a file."""

  def __init__(self, path: str, label: str):
    """Initializes the object.

    Args:
      path: File of the attempts, JSON.
      label: Printed before each result.
    """
    self._path = path
    self._label = label

  def once(self, step: str, function: Callable[[], Any]) -> None:
    """Calls a function unless it has succeeded before; records the attempt."""
    if self.is_done(step):
      return
    attempts = self._read()
    attempt = {'step': step, 'is_done': False, 'seconds': None}
    attempts.append(attempt)
    self._write(attempts)  # A killed attempt is recorded too.
    start = time.monotonic()
    try:
      attempt['result'] = function()
      attempt['is_done'] = True
    finally:
      attempt['seconds'] = time.monotonic() - start
      self._write(attempts)
    print(f'{self._label}: {json.dumps(attempt)}', flush=True)

  def is_done(self, step: str) -> bool:
    """Returns whether a step has succeeded."""
    return step in self.done()

  def done(self) -> Dict[str, Any]:
    """Returns the attempts that succeeded, by step."""
    return {x['step']: x for x in self._read() if x['is_done']}

  def _read(self) -> List[Dict[str, Any]]:
    if not os.path.exists(self._path):
      return []
    with open(self._path, encoding='utf-8') as file:
      return json.load(file)

  def _write(self, attempts: List[Dict[str, Any]]) -> None:
    with synced_file.write(self._path) as file:
      file.write(json.dumps(attempts, indent=1).encode())
