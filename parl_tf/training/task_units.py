"""The units of a run's actions, which a changed driver would change."""

import json
import os
from typing import Any, Dict

import numpy as np

from parl_tf import synced_file
from parl_tf.training import run_directory

_FILE = 'units.json'


def claim(root_dir: str, domain: Any) -> None:
  """Records a task's units, or checks that they are those of the run.

  Args:
    root_dir: Directory of the run.
    domain: `Domain`.

  Raises:
    ValueError: If they are not.
  """
  path = os.path.join(root_dir, _FILE)
  if os.path.exists(path) and run_directory.holds_run(root_dir):
    check(root_dir, domain)
    return
  synced_file.make_directory(root_dir)
  with synced_file.write(path) as file:
    file.write(json.dumps(_units(domain)).encode())


def check(root_dir: str, domain: Any) -> None:
  """Checks that a task has the units of a run, if these are recorded.

  Raises:
    ValueError: If not: the run's policy would move a robot faster or slower.
  """
  path = os.path.join(root_dir, _FILE)
  if not os.path.exists(path):
    return  # Of an earlier version.
  with open(path, encoding='utf-8') as file:
    wanted = json.load(file)
  for name, seen in _units(domain).items():
    if wanted[name] != seen:
      raise ValueError(
          f'{path}: `{name}` of the task must be {wanted[name]}, as when the'
          f' run began, got {seen}. Its policy, whose actions are in [-1, 1],'
          ' would move otherwise.'
      )


def _units(domain) -> Dict[str, Any]:
  bounds = np.asarray(domain.raw_action_bounds, np.float32)
  return {
      'raw_action_bounds': bounds.tolist(),  # Lows and highs, each [A].
      'control_rate': float(getattr(domain, 'control_rate', 0.0)),  # Hz.
  }
