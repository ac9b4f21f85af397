"""Calls SavedModels in a new process, as a robot's program would.

A SavedModel may work in the process that wrote it and nowhere else, for
instance if its graph calls a Python function of that process.

  python parl_tf/training/saved_model_check.py FOLDER

reads FOLDER/request.json, FOLDER/example.npz and, from standard input, the
directory of a SavedModel a line. It writes the answers to FOLDER. `Check` runs
this command. The program imports TensorFlow and nothing of this project.
"""

from concurrent import futures
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Dict, Iterable, List, Mapping, NamedTuple, Optional

import numpy as np

SIGNATURE = 'serving_default'
SEED = (11, 7)
_INPUT = 'input_'
"""Seed of the calls."""
BATCH_SIZES = (1, 16)
"""Numbers of robots whose latency is measured."""

_NUM_TIMED_CALLS = 20
_MAX_TIMED_SECONDS = 0.5  # After these, three calls are enough.


class Answer(NamedTuple):
  """What a SavedModel did.

  Attributes:
    actions: Raw actions `[B, H, A]` for the example.
    latency_milliseconds: Median milliseconds of a call, by batch size; empty if
      it was not measured.
  """

  actions: np.ndarray
  latency_milliseconds: Mapping[str, float]


class Check:
  """Calls SavedModels with the same observations, each as soon as it is there.

  ```
  with Check(example, in_new_process=True, measure_latency=False) as check:
    check.add(path)  # For each SavedModel.
    answers = check.answers()
  ```

  The new process imports TensorFlow and loads a model while the caller writes
  the next.
  """

  def __init__(
      self,
      example: Mapping[str, np.ndarray],
      *,
      in_new_process: bool,
      measure_latency: bool,
  ):
    """Starts the new process.

    Args:
      example: Observations `[B, ...]` by input of the signature, without
        `seed`.
      in_new_process: Whether to load the models in a new process. It uses no
        GPU, whose memory this process has.
      measure_latency: Whether the new process also measures the latency, for
        which every model is compiled for each batch size.
    """
    self._example = example
    self._paths: List[str] = []
    self._process: Optional[subprocess.Popen] = None
    if not in_new_process:
      return
    self._folder = tempfile.TemporaryDirectory()
    # Prefixed, because `savez` has arguments of its own.
    np.savez(
        self._in_folder('example.npz'),
        **{f'{_INPUT}{name}': x for name, x in example.items()},
    )
    with open(self._in_folder('request.json'), 'w', encoding='utf-8') as file:
      json.dump({'measure_latency': measure_latency}, file)
    with open(self._in_folder('stderr'), 'w', encoding='utf-8') as stderr:
      self._process = subprocess.Popen(
          [
              sys.executable,
              # Not `-m`, which would import a `random.py` of the user's from
              # the working directory.
              os.path.abspath(__file__),
              self._folder.name,
          ],
          stdin=subprocess.PIPE,
          stdout=subprocess.DEVNULL,
          stderr=stderr,
          text=True,
          env={
              **os.environ,
              'CUDA_VISIBLE_DEVICES': '',
              'TF_CPP_MIN_LOG_LEVEL': '3',
          },
      )

  def __enter__(self) -> 'Check':
    return self

  def __exit__(self, *error) -> None:
    if self._process is not None:
      self._process.kill()
      self._process.communicate()
      self._folder.cleanup()

  def add(self, path: str) -> None:
    """Adds a complete SavedModel."""
    self._paths.append(path)
    if self._process is None or self._process.stdin is None:
      return
    try:
      self._process.stdin.write(os.path.abspath(path) + '\n')
      self._process.stdin.flush()
    except BrokenPipeError:
      pass  # It has ended; `answers` tells why.

  def answers(self) -> List[Answer]:
    """Returns the answers of all models, in the order of `add`.

    Raises:
      ValueError: If the new process failed; the message has the last line of
        its error.
    """
    if self._process is None:
      return _call_all(self._paths, self._example, measure_latency=False)
    self._process.communicate()
    if self._process.returncode < 0:
      raise ValueError(
          f'{", ".join(self._paths)}: the new process that checks the'
          f' SavedModels was ended by signal {-self._process.returncode}, for'
          ' instance because there was too little memory.'
      )
    if self._process.returncode:
      raise ValueError(
          f'{", ".join(self._paths)}: the SavedModels must work in a new'
          f' process, but it ended with status {self._process.returncode}:'
          f' {self._reason()}'
      )
    return _read(self._folder.name, len(self._paths))

  def _reason(self) -> str:
    """Returns the error of the new process in one line."""
    path = self._in_folder('error')
    if not os.path.exists(path):
      path = self._in_folder('stderr')
    with open(path, encoding='utf-8') as file:
      lines = file.read().strip().splitlines()
    return lines[-1] if lines else 'no message'

  def _in_folder(self, name):
    return os.path.join(self._folder.name, name)


def _read(folder, num_paths) -> List[Answer]:
  with open(
      os.path.join(folder, 'latency.json'), encoding='utf-8'
  ) as file:
    latencies = json.load(file)
  with np.load(os.path.join(folder, 'actions.npz')) as actions:
    return [
        Answer(actions[str(i)], latencies[i]) for i in range(num_paths)
    ]


def _call_all(paths: Iterable[str], example, measure_latency) -> List[Answer]:
  import tensorflow as tf  # Not needed by the process that only waits.

  models, actions, others = [], [], []
  # XLA compiles each model at its first call with a batch size; threads use all
  # cores for that.
  with futures.ThreadPoolExecutor(os.cpu_count()) as executor:
    for path in paths:
      models.append(tf.saved_model.load(path))
      actions.append(executor.submit(_act, models[-1], example))
      for size in BATCH_SIZES if measure_latency else ():
        batch = _resized(example, size)
        others.append(executor.submit(_act, models[-1], batch))
  for other in others:
    other.result()  # Raises what the call raised.
  return [
      Answer(
          action.result(),
          _latencies(model, example) if measure_latency else {},
      )
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


def _resized(example, size):
  return {
      name: np.resize(x, (size, *x.shape[1:])) for name, x in example.items()
  }


def _latencies(model, example) -> Dict[str, float]:
  """Times calls for batch sizes that are compiled already."""
  found = {}
  for size in BATCH_SIZES:
    batch = _resized(example, size)
    seconds: List[float] = []
    while len(seconds) < 3 or (
        len(seconds) < _NUM_TIMED_CALLS and sum(seconds) < _MAX_TIMED_SECONDS
    ):
      started = time.perf_counter()
      _act(model, batch)
      seconds.append(time.perf_counter() - started)
    found[str(size)] = round(1e3 * statistics.median(seconds), 3)
  return found


def main(folder: str) -> None:
  """Answers the request in a folder."""
  # Importing TensorFlow creates millions of objects that stay; looking for
  # garbage among them takes a tenth of the time.
  gc.disable()
  import tensorflow  # noqa: F401  # While the first model is written.

  gc.freeze()
  gc.enable()
  with open(
      os.path.join(folder, 'request.json'), encoding='utf-8'
  ) as file:
    request = json.load(file)
  with np.load(os.path.join(folder, 'example.npz')) as example:
    answers = _call_all(
        (line.rstrip('\n') for line in sys.stdin),
        {name[len(_INPUT) :]: x for name, x in example.items()},
        request['measure_latency'],
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
  try:
    main(sys.argv[1])
  except Exception as error:
    # TensorFlow's errors end with lines about the graph.
    first = (str(error).strip().splitlines() or ['no message'])[0]
    with open(os.path.join(sys.argv[1], 'error'), 'w', encoding='utf-8') as f:
      f.write(f'{type(error).__name__}: {first}')
    raise
