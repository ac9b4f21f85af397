"""Compares a remote environment with the same one in a single process.

  python -m venv theirs && theirs/bin/pip install dm-env-rpc gymnasium
  python -m benchmarks.remote_environment --python theirs/bin/python

Serves a gymnasium task with `examples/remote_environment/server.py` in the
other virtual environment. Plays episodes through the server, and in one process
of that environment with the same seeds and actions, and fails unless all
rewards and observations are equal. Also reports how much the package
versions of this process would change them. Then kills the server with SIGKILL
during an episode, restarts it, and compares that episode after it was repeated.
"""

import contextlib
import json
import pathlib
import signal
import socket
import subprocess
import threading
import time
from typing import Sequence, Tuple

from absl import app
from absl import flags
import gymnasium
import numpy as np

from parl_tf.domains import domain
from parl_tf.domains import gymnasium_adapter
from parl_tf.domains import remote

_PYTHON = flags.DEFINE_string(
    'python', None, 'Python of the other virtual environment.', required=True
)
_ENVIRONMENT = flags.DEFINE_string(
    'environment', 'Pendulum-v1', 'Gymnasium task, installed in both.'
)
_NUM_EPISODES = flags.DEFINE_integer('num_episodes', 5, 'Episodes to compare.')
_NUM_STEPS = flags.DEFINE_integer('num_steps', 200, 'Steps per episode.')

_SERVER = (
    pathlib.Path(__file__).resolve().parents[1]
    / 'examples' / 'remote_environment' / 'server.py'
)
# Rewards `[T]` and observations `[T + 1, S]`.
Episode = Tuple[np.ndarray, np.ndarray]

# Maps actions to the task's units as `GymnasiumEnvironment` does.
_IN_PROCESS = """
import json, sys
import gymnasium
import numpy as np
task, seed, actions = json.load(sys.stdin)
environment = gymnasium.make(task).unwrapped
box, rewards = environment.action_space, []
low, high = box.low.astype(np.float64), box.high.astype(np.float64)
def flat(observation):
  is_dict = isinstance(observation, dict)
  parts = observation.values() if is_dict else [observation]
  return np.concatenate([np.ravel(x) for x in parts]).astype(float).tolist()
observations = [flat(environment.reset(seed=seed)[0])]
for action in actions:
  raw = (low + (np.array(action) + 1) / 2 * (high - low)).astype(box.dtype)
  observation, reward, terminated, truncated, _ = environment.step(raw)
  rewards.append(float(reward))
  observations.append(flat(observation))
  if terminated or truncated:
    break
json.dump([rewards, observations], sys.stdout)
"""
_VERSIONS = (
    'import sys, numpy, gymnasium; print("Python", sys.version.split()[0],'
    ' "in", sys.prefix, "numpy", numpy.__version__,'
    ' "gymnasium", gymnasium.__version__)'
)


def _serve(python: str, port: int) -> subprocess.Popen:
  """Starts the server and returns it once it is ready."""
  server = subprocess.Popen(
      [python, str(_SERVER), f'--environment={_ENVIRONMENT.value}',
       f'--port={port}'],
      stdout=subprocess.PIPE,
      text=True,
  )
  line = server.stdout.readline()
  if 'is served at' not in line:
    raise RuntimeError(
        f'{python}: the server must print its address, got {line!r}.'
    )
  return server


def draw_actions(environment, seed: int) -> np.ndarray:
  """Returns the actions `[T, A]` in [-1, 1] of an episode."""
  shape = (_NUM_STEPS.value, *environment.action_spec().shape)
  return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def act(environment, seed: int, before_step=lambda step: None) -> Episode:
  """Returns rewards and observations of an episode with random actions."""
  environment.seed(seed)
  rewards, observations = [], [_flat(environment.reset().observation)]
  for step, action in enumerate(draw_actions(environment, seed)):
    before_step(step)
    time_step = environment.step(action)
    rewards.append(float(time_step.reward))
    observations.append(_flat(time_step.observation))
    if time_step.last():
      break
  return np.array(rewards), np.array(observations)


def act_there(environment, seed: int) -> Episode:
  """Returns the same episode, played in one process of the other Python."""
  answer = subprocess.run(
      [_PYTHON.value, '-c', _IN_PROCESS],
      input=json.dumps([
          _ENVIRONMENT.value, seed, draw_actions(environment, seed).tolist()
      ]),
      stdout=subprocess.PIPE,
      text=True,
      check=True,
  )
  rewards, observations = json.loads(answer.stdout)
  # The adapter casts to these types.
  return (
      np.array(rewards, np.float32).astype(np.float64),
      np.array(observations, np.float32),
  )


def _flat(observation) -> np.ndarray:
  is_dict = isinstance(observation, dict)
  parts = observation.values() if is_dict else [observation]
  return np.concatenate([np.ravel(part) for part in parts])


def _check_equal(seed: int, served: Episode, expected: Episode) -> None:
  for kind, found, wanted in zip(('rewards', 'observations'), served, expected):
    if not np.array_equal(found, wanted):
      raise AssertionError(
          f'Episode with seed {seed}: the {kind} must match those in one'
          f' process, with shape {wanted.shape}, got {found.shape}; returns'
          f' {expected[0].sum()} and {served[0].sum()}.'
      )
  print(
      f'seed {seed}: {len(served[0])} steps, return {served[0].sum():.9g}'
      f' through the server, {expected[0].sum():.9g} in one process; all'
      ' rewards and observations are equal'
  )


def _steps_a_second(environment) -> float:
  start = time.perf_counter()
  rewards, _ = act(environment, 0)
  return len(rewards) / (time.perf_counter() - start)


def main(argv: Sequence[str]) -> None:
  """Compares, kills the server and compares again."""
  del argv
  # Treated as an interrupt, which also stops the server.
  signal.signal(signal.SIGTERM, signal.default_int_handler)
  with contextlib.closing(socket.socket()) as found:
    found.bind(('127.0.0.1', 0))
    port = found.getsockname()[1]
  print('there:', subprocess.check_output(
      [_PYTHON.value, '-c', _VERSIONS], text=True).strip())
  with contextlib.ExitStack() as stack:
    servers = [_serve(_PYTHON.value, port)]
    stack.callback(lambda: (servers[-1].kill(), servers[-1].wait()))
    there = remote.Remote(
        f'127.0.0.1:{port}', max_episode_steps=_NUM_STEPS.value
    ).make_environment(0, evaluation=True)
    stack.callback(there.close)
    here = gymnasium_adapter.GymnasiumEnvironment(
        gymnasium.make(_ENVIRONMENT.value).unwrapped,
        seed=0,
        action_repeat=1,
        max_episode_steps=_NUM_STEPS.value,
    )
    for seed in range(_NUM_EPISODES.value):
      served = act(there, seed)
      _check_equal(seed, served, act_there(there, seed))
      change = abs(act(here, seed)[0].sum() - served[0].sum())
      print(f'  maximum change with the packages of this process: {change:.2g}')
    print(
        f'steps/s: {_steps_a_second(here):.0f} here,'
        f' {_steps_a_second(there):.0f} on the server'
    )
    _kill_and_compare(there, servers, port)


def _kill_and_compare(there, servers, port) -> None:
  """Kills the server halfway; it restarts two seconds later."""
  seed, killed = _NUM_EPISODES.value, []

  def start_again():
    time.sleep(2.0)
    servers.append(_serve(_PYTHON.value, port))

  def kill(step):
    if not killed and step == _NUM_STEPS.value // 2:
      killed.append(time.monotonic())
      servers[-1].kill()
      servers[-1].wait()
      threading.Thread(target=start_again).start()

  attempts = []

  def attempt():
    attempts.append(time.monotonic())
    return act(there, seed, kill)

  acted = domain.act_until_kept(attempt)
  print(
      f'killed at step {_NUM_STEPS.value // 2} of the next episode, restarted'
      f' after 2 s; complete {time.monotonic() - killed[0]:.1f} s after the'
      f' kill, in {len(attempts)} attempts'
  )
  _check_equal(seed, acted, act_there(there, seed))


if __name__ == '__main__':
  app.run(main)
