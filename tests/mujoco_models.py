"""Compiles each MuJoCo model once in a process.

Many tests make environments of the same few models. MuJoCo takes 50 to 300 ms
to compile one, and 5 ms to copy it. A change of the files that a model includes
goes unnoticed.
"""

import copy
import functools
import os

import mujoco


def share() -> None:
  """Makes `mujoco.MjModel` return copies of the models that it compiled."""
  from_path = mujoco.MjModel.from_xml_path
  from_string = mujoco.MjModel.from_xml_string

  @functools.lru_cache(maxsize=32)
  def model_of_path(path, modified_ns, assets):
    del modified_ns
    return from_path(path, *([dict(assets)] if assets else []))

  @functools.lru_cache(maxsize=32)
  def model_of_string(xml, assets):
    return from_string(xml, dict(assets))

  def from_xml_path(filename, assets=None):
    exists = os.path.exists(filename)
    modified_ns = os.stat(filename).st_mtime_ns if exists else None
    return copy.copy(model_of_path(filename, modified_ns, _items(assets)))

  def from_xml_string(xml, assets=None):
    return copy.copy(model_of_string(xml, _items(assets)))

  mujoco.MjModel.from_xml_path = from_xml_path
  mujoco.MjModel.from_xml_string = from_xml_string


def _items(assets):
  return tuple(sorted((assets or {}).items()))
