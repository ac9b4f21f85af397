"""Measures how fast OGBench's tasks with images are.

  MUJOCO_GL=egl python -m benchmarks.drawing --processes 1,2

Prints a table of each task's environment steps (of 0.05 s) per second, with
states, with images and with fast images, for each number of processes. All
processes of a row play at the same time, with random actions. The kinds of
observation take turns, and the table has medians.
"""

import concurrent.futures
import multiprocessing
import time
from typing import Any, Dict, List, Sequence

from absl import app
from absl import flags
import numpy as np

from parl_tf.domains import ogbench

_PROCESSES = flags.DEFINE_list('processes', ['1', '2'], 'Process counts.')
_SECONDS = flags.DEFINE_float('seconds', 5.0, 'Duration of a turn.', 0.1)
_TURNS = flags.DEFINE_integer('turns', 3, 'Turns.', 1)

_TASKS = {
    'cube': ogbench.Cube, 'scene': ogbench.Scene, 'puzzle': ogbench.Puzzle
}
_KINDS: Dict[str, Dict[str, Any]] = {
    'states': {},
    'images': {'image_size': 64},
    'fast images': {'image_size': 64, 'fast_images': True},
}

_environments: Dict[object, object] = {}


def play(name: str, kind: str, seconds: float) -> float:
  """Returns the steps per second of a task in this process."""
  key = (name, kind)
  if key not in _environments:
    task = _TASKS[name](**_KINDS[kind])
    _environments[key] = task.make_environment(seed=0, evaluation=False)
    _environments[key].reset()
  environment = _environments[key]
  random = np.random.default_rng(0)
  start, num_steps = time.monotonic(), 0
  while time.monotonic() - start < seconds:
    environment.step(random.uniform(-1.0, 1.0, [5]).astype(np.float32))
    num_steps += 1
  return num_steps / (time.monotonic() - start)


def main(argv: Sequence[str]) -> None:
  """Prints the table."""
  del argv
  counts = [int(x) for x in _PROCESSES.value]
  context = multiprocessing.get_context('spawn')
  print(f'| task | processes | {", steps/s | ".join(_KINDS)}, steps/s |')
  print('|---|---|' + '---|' * len(_KINDS))
  with concurrent.futures.ProcessPoolExecutor(max(counts), context) as pool:
    for name in _TASKS:
      for kind in _KINDS:  # Makes the environments.
        _steps_per_second(pool, max(counts), name, kind, 0.1)
      rates: Dict[object, List[float]] = {}
      for _ in range(_TURNS.value):
        for count in counts:
          for kind in _KINDS:
            rates.setdefault((count, kind), []).append(
                _steps_per_second(pool, count, name, kind, _SECONDS.value)
            )
      for count in counts:
        medians = [np.median(rates[count, kind]) for kind in _KINDS]
        numbers = ' | '.join(f'{x:.1f}' for x in medians)
        print(f'| {name} | {count} | {numbers} |')


def _steps_per_second(pool, count, name, kind, seconds) -> float:
  """Returns the sum over processes that play at the same time."""
  futures = [pool.submit(play, name, kind, seconds) for _ in range(count)]
  return sum(future.result() for future in futures)


if __name__ == '__main__':
  app.run(main)
