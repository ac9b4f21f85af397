"""The report of an export's check, `parity.json` in its directory."""

import json
import os
import platform
from typing import Any, Dict, Mapping, Optional

import tensorflow as tf

from parl_tf import input_names
from parl_tf import types
from parl_tf import version

FILE = 'parity.json'


def write(
    directory: str,
    signature: Any,
    observation_spec: types.Nest,
    *,
    num_observations: int,
    largest_difference: float,
    compared: str = 'action',
    latency_milliseconds: Mapping[str, float],
    in_new_process: bool,
    task: Optional[str] = None,
    source: Optional[Mapping[str, Any]] = None,
) -> None:
  """Writes the report.

  Args:
    directory: Directory of the SavedModel.
    signature: Its concrete function `serving_default`.
    observation_spec: Nest of `tf.TensorSpec` of one observation.
    num_observations: Observations that were tried.
    largest_difference: Largest difference from the live policy, in raw units.
    compared: Output whose difference this is.
    latency_milliseconds: Median milliseconds of a call, by number of robots.
    in_new_process: Whether the model was loaded in a new process.
    task: Name of the domain that the policy was trained on, if known.
    source: Where the policy comes from, if known; see `export_source`.
  """
  inputs = tf.nest.flatten(signature.structured_input_signature)
  report = {
      'task': task,
      'source': None if source is None else dict(source),
      'num_observations': num_observations,
      'largest_difference': largest_difference,
      'compared': compared,
      'in_new_process': in_new_process,
      'latency_milliseconds': dict(latency_milliseconds) or None,
      'inputs': _describe({spec.name: spec for spec in inputs}),
      'outputs': _describe(signature.structured_outputs),
      'observation_keys': _keys(observation_spec),
      'versions': {
          'parl_tf': version.__version__,
          'tensorflow': tf.__version__,
          'python': platform.python_version(),
      },
  }
  with open(os.path.join(directory, FILE), 'w', encoding='utf-8') as file:
    json.dump(report, file, indent=2)
    file.write('\n')


def observation_keys(directory: str) -> Dict[str, str]:
  """Returns the keys of a dict observation by name of the input.

  Empty if the observation is one array or the directory has no report.
  """
  return _read(directory).get('observation_keys', {})


def task(directory: str) -> Optional[str]:
  """Returns the name of the domain that a policy was trained on, if known."""
  return _read(directory).get('task')


def _read(directory: str) -> Dict[str, Any]:
  path = os.path.join(directory, FILE)
  if not os.path.exists(path):
    return {}
  with open(path, encoding='utf-8') as file:
    return json.load(file)


def _keys(observation_spec: types.Nest) -> Dict[str, str]:
  if not isinstance(observation_spec, dict):
    return {}
  return {x: key for key, x in input_names.of(observation_spec).items()}


def _describe(specs: Mapping[str, Any]) -> Dict[str, str]:
  return {
      name: f'{spec.dtype.name} {spec.shape.as_list()}'
      for name, spec in sorted(specs.items())
  }
