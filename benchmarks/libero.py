"""Plays an episode of LIBERO twice and prints observations and speed.

  python -m benchmarks.libero --address 127.0.0.1:50051 \
      --suite libero_goal --task 0

Needs the server of `examples/libero`. Actions are random, so the task is rarely
solved. Both episodes have the same seed and must be identical bit for bit.
"""

import time
from typing import List, Sequence, Tuple

from absl import app
from absl import flags
import numpy as np

from parl_tf import types
from parl_tf.domains import domain as domain_lib
from parl_tf.domains import libero

_ADDRESS = flags.DEFINE_string(
    'address', '127.0.0.1:50051', 'host:port of the server.'
)
_SUITE = flags.DEFINE_string('suite', 'libero_goal', 'Suite of tasks.')
_TASK = flags.DEFINE_integer('task', 0, 'Index of the task.')
_IMAGES = flags.DEFINE_bool('images', True, 'Whether to render cameras.')
_MAX_STEPS = flags.DEFINE_integer(
    'max_steps', None, 'Steps per episode; by default those of the suite.'
)
_SEED = flags.DEFINE_integer('seed', 0, 'Seed of the start and the actions.')
_DEADLINE_SECONDS = flags.DEFINE_float(
    'deadline_seconds', 120.0, 'Maximum time for an answer of the server.'
)


def play(
    environment: domain_lib.Environment, seed: int
) -> Tuple[List[types.Nest], float]:
  """Plays an episode; returns its observations and steps per second."""
  environment.seed(seed)
  time_step = environment.reset()
  observations = [time_step.observation]
  random = np.random.default_rng(seed)
  shape = environment.action_spec().shape
  start = time.monotonic()
  while not time_step.last():
    action = random.uniform(-1.0, 1.0, shape).astype(np.float32)
    time_step = environment.step(action)
    observations.append(time_step.observation)
  rate = (len(observations) - 1) / (time.monotonic() - start)
  return observations, rate


def main(argv: Sequence[str]) -> int:
  """Returns 0 if both episodes are identical."""
  del argv
  start = time.monotonic()
  task = libero.Libero(
      _ADDRESS.value,
      suite=_SUITE.value,
      task=_TASK.value,
      images=_IMAGES.value,
      instruction=True,
      max_episode_steps=_MAX_STEPS.value,
      deadline_seconds=_DEADLINE_SECONDS.value,
      reconnect_seconds=_DEADLINE_SECONDS.value,
  )
  environment = task.make_environment(_SEED.value, evaluation=True)
  print(f'created two worlds in {time.monotonic() - start:.1f} s')
  observations, rate = play(environment, _SEED.value)
  for name, part in observations[0].items():
    print(f'{name} {part.shape} {part.dtype}, {part.min()} to {part.max()}')
  text = bytes(observations[0]['instruction']).rstrip(b'\0').decode()
  print(f'instruction: {text}')
  print(
      f'{len(observations) - 1} steps, {rate:.1f} steps/s, success:'
      f' {environment.is_success()}'
  )
  again, _ = play(environment, _SEED.value)
  is_same = len(again) == len(observations) and all(
      np.array_equal(x[name], y[name])
      for x, y in zip(observations, again)
      for name in x
  )
  print(f'identical with the same seed: {is_same}')
  environment.close()
  return 0 if is_same else 1


if __name__ == '__main__':
  app.run(main)
