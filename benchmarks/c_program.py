"""Compiles and runs `examples/c_program`, which acts by TensorFlow's C API."""

import os
import pathlib
import subprocess
from typing import List, Sequence, Tuple

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

_SOURCE = pathlib.Path(__file__).parents[1] / 'examples/c_program/act.c'


def build(directory: str) -> str:
  """Compiles the program with gcc; returns its path in `directory`."""
  program = os.path.join(directory, 'act')
  folder = tf.sysconfig.get_lib()
  libraries = ('libtensorflow_cc.so.2', 'libtensorflow_framework.so.2')
  subprocess.run(
      [
          'gcc', '-O2', '-Wall', '-Wextra', '-Werror', '-o', program,
          str(_SOURCE), f'-I{folder}/include', f'-L{folder}',
          f'-Wl,-rpath,{folder}', *(f'-l:{name}' for name in libraries),
      ],
      check=True,
  )
  return program


def action_name(policy: str) -> str:
  """Returns the name of a SavedModel's output, such as 'Call:0'."""
  model = saved_model_pb2.SavedModel()
  model.ParseFromString(pathlib.Path(policy, 'saved_model.pb').read_bytes())
  (graph,) = model.meta_graphs
  return graph.signature_def['serving_default'].outputs['action'].name


def act(
    program: str, policy: str, num_decisions: int, observation: Sequence[float]
) -> Tuple[List[float], List[float]]:
  """Runs the program.

  Args:
    program: Path that `build` returned.
    policy: Directory of a SavedModel that takes one vector of observations.
    num_decisions: Number of decisions to time.
    observation: The vector.

  Returns:
    The action for the seed (0, 1), and the seconds of each decision.

  Raises:
    CalledProcessError: If the program fails; it prints why.
  """
  output = subprocess.run(
      [
          program, policy, action_name(policy), str(num_decisions),
          *map(str, observation),
      ],
      check=True,
      stdout=subprocess.PIPE,
      text=True,
      env={**os.environ, 'TF_NUM_INTRAOP_THREADS': '1'},
  ).stdout
  action, seconds = output.splitlines()
  return _numbers(action), _numbers(seconds)


def _numbers(line):
  return [float(word) for word in line.split()]
