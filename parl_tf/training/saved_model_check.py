"""Calls SavedModels in a new process, as a robot's program would.

A SavedModel may work in the process that wrote it and nowhere else, for
instance if its graph calls a Python function of that process.

  python -m parl_tf.training.saved_model_check FOLDER

reads FOLDER/request.json and FOLDER/example.npz and writes the answers; `call`
runs this command. The program imports TensorFlow and nothing of this project.
"""

from concurrent import futures
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Dict, List, Mapping, NamedTuple, Sequence

import numpy as np

SIGNATURE = 'serving_default'
SEED = (11, 7)
"""Seed of the calls."""
BATCH_SIZES = (1, 16)
"""Numbers of robots whose latency is measured."""

_NUM_TIMED_CALLS = 20


class Answer(NamedTuple):
  """What a SavedModel did.

  Attributes:
    actions: Raw actions `[B, H, A]` for the example.
    latency_milliseconds: Median milliseconds of a call, by batch size; empty if
      it was not measured.
  """

  actions: np.ndarray
  latency_milliseconds: Mapping[str, float]


def call(
    paths: Sequence[str],
    example: Mapping[str, np.ndarray],
    *,
    in_new_process: bool,
    measure_latency: bool,
) -> List[Answer]:
  """Calls SavedModels with the same observations.

  Args:
    paths: Directories of the SavedModels.
    example: Observations `[B, ...]` by input of the signature, without `seed`.
    in_new_process: Whether to load them in a new process, which takes the time
      of an import of TensorFlow. It uses no GPU, whose memory this process has.
    measure_latency: Whether to also measure the latency, for which every model
      is compiled for each batch size.

  Raises:
    ValueError: If the new process fails; the message has the last line of its
      error.
  """
  if not in_new_process:
    return _call_all(paths, example, measure_latency)
  with tempfile.TemporaryDirectory() as folder:
    _write(folder, paths, example, measure_latency)
    done = subprocess.run(
        [sys.executable, '-m', 'parl_tf.training.saved_model_check', folder],
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            'CUDA_VISIBLE_DEVICES': '',
            'TF_CPP_MIN_LOG_LEVEL': '3',
        },
    )
    if done.returncode:
      reason = (done.stderr.strip().splitlines() or ['no message'])[-1]
      raise ValueError(
          f'{", ".join(paths)}: the SavedModels must work in a new process, but'
          f' it ended with status {done.returncode}: {reason}'
      )
    return _read(folder, len(paths))


def _write(folder, paths, example, measure_latency):
  np.savez(os.path.join(folder, 'example.npz'), **example)
  request = dict(
      paths=[os.path.abspath(path) for path in paths],
      measure_latency=measure_latency,
  )
  with open(
      os.path.join(folder, 'request.json'), 'w', encoding='utf-8'
  ) as file:
    json.dump(request, file)


def _read(folder, num_paths) -> List[Answer]:
  with open(
      os.path.join(folder, 'latency.json'), encoding='utf-8'
  ) as file:
    latencies = json.load(file)
  with np.load(os.path.join(folder, 'actions.npz')) as actions:
    return [
        Answer(actions[str(i)], latencies[i]) for i in range(num_paths)
    ]


def _call_all(paths, example, measure_latency) -> List[Answer]:
  import tensorflow as tf  # Not needed by the process that only waits.

  models = [tf.saved_model.load(path) for path in paths]
  # XLA compiles each model at its first call; threads use all cores for that.
  with futures.ThreadPoolExecutor(os.cpu_count()) as executor:
    actions = list(executor.map(lambda model: _act(model, example), models))
  return [
      Answer(action, _latencies(model, example) if measure_latency else {})
      for model, action in zip(models, actions)
  ]


def _act(model, example) -> np.ndarray:
  import tensorflow as tf

  outputs = model.signatures[SIGNATURE](
      seed=tf.constant(SEED, tf.int32),
      **{name: tf.constant(x) for name, x in example.items()},
  )
  if 'chunk' in outputs:
    return outputs['chunk'].numpy()
  return outputs['action'].numpy()[:, np.newaxis]


def _latencies(model, example) -> Dict[str, float]:
  found = {}
  for size in BATCH_SIZES:
    batch = {
        name: np.resize(x, (size, *x.shape[1:])) for name, x in example.items()
    }
    _act(model, batch)  # Compiles.
    seconds = []
    for _ in range(_NUM_TIMED_CALLS):
      started = time.perf_counter()
      _act(model, batch)
      seconds.append(time.perf_counter() - started)
    found[str(size)] = round(1e3 * statistics.median(seconds), 3)
  return found


def main(folder: str) -> None:
  """Answers the request in a folder."""
  with open(
      os.path.join(folder, 'request.json'), encoding='utf-8'
  ) as file:
    request = json.load(file)
  with np.load(os.path.join(folder, 'example.npz')) as example:
    answers = _call_all(
        request['paths'], dict(example), request['measure_latency']
    )
  np.savez(
      os.path.join(folder, 'actions.npz'),
      **{str(i): answer.actions for i, answer in enumerate(answers)},
  )
  with open(
      os.path.join(folder, 'latency.json'), 'w', encoding='utf-8'
  ) as file:
    json.dump([answer.latency_milliseconds for answer in answers], file)


if __name__ == '__main__':
  main(sys.argv[1])
