"""Compares installed packages with the versions that the tests use."""

from importlib import metadata
import os
import re
import sys
from typing import Dict, Mapping, Optional, Tuple

REINSTALL = 'install the versions above, or parl_tf again with constraints.'

# Those whose version matters; the others of the constraints are theirs.
_PACKAGES = (
    'dm-reverb', 'gin-config', 'gymnasium', 'gymnasium-robotics', 'h5py',
    'keras', 'mujoco', 'numpy', 'protobuf', 'tensorflow',
    'tensorflow-probability', 'tf-agents', 'tf-keras',
)
_PIN = re.compile(r'([\w.-]+)==([\w.]+)\s*(?:;.*)?$')


def read_pins() -> Tuple[str, Dict[str, str]]:
  """Returns the path of the constraints of this Python, and their versions.

  They are next to the package in a checkout, and in `parl_tf/configs` in an
  installation.

  Raises:
    FileNotFoundError: If there are none.
  """
  name = (
      'constraints-3.12.txt'
      if sys.version_info >= (3, 12)
      else 'constraints.txt'
  )
  package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
  places = os.path.dirname(package), os.path.join(package, 'configs')
  for place in places:
    path = os.path.join(place, name)
    if os.path.exists(path):
      with open(path, encoding='utf-8') as file:
        return path, _parse(file.read())
  raise FileNotFoundError(f'there is no {name} in {" or ".join(places)}')


def differences(
    pinned: Mapping[str, str],
) -> Dict[str, Tuple[Optional[str], str]]:
  """Returns the installed and the pinned version of packages that differ.

  Args:
    pinned: Versions by package.
  """
  found = {}
  for package in _PACKAGES:
    if package in pinned:
      seen = _installed(package)
      if seen is None or seen.partition('+')[0] != pinned[package]:
        found[package] = (seen, pinned[package])
  return found


def _installed(package: str) -> Optional[str]:
  try:
    return metadata.version(package)
  except metadata.PackageNotFoundError:
    return None


def _parse(text: str) -> Dict[str, str]:
  matches = filter(None, map(_PIN.match, text.splitlines()))
  return {match[1].lower(): match[2] for match in matches}
