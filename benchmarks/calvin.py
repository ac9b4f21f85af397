"""Tests a CALVIN server; see examples/calvin/README.md.

  python benchmarks/calvin.py --address 127.0.0.1:50051

Plays an episode of an idle robot, which must solve nothing, and one of a robot
that presses the button repeatedly, so that the LED turns on and off. Prints
shapes and steps per second, with and without images. To compare,
`examples/calvin/check.py` measures the same environment without a server.
"""

import time
from typing import Sequence

from absl import app
from absl import flags
import numpy as np
import tree

from parl_tf.domains import calvin
from parl_tf.training import evaluation

_ADDRESS = flags.DEFINE_string(
    'address', '127.0.0.1:50051', 'host:port of the server.'
)
_STATES = ('robot', 'scene')
_IMAGES = ('robot', 'static', 'gripper')
_NUM_STEPS = {_STATES: 300, _IMAGES: 30}
_IDLE = np.array([[0, 0, 0, 0, 0, 0, 1]], np.float32)
_BUTTON = np.array([-0.12, -0.12])  # Position in metres, from above.
_HEIGHTS = (0.55, 0.45)  # Gripper heights in metres, above and pressing.
_PERIOD = 60  # Steps between presses.


def press(robot: np.ndarray, step: int) -> np.ndarray:
  """Returns the action `[7]` that moves the closed gripper down and up."""
  height = _HEIGHTS[step % _PERIOD > _PERIOD // 2]
  wanted = np.array([*_BUTTON, height])
  # Actions are in units of 0.02 m. The arm lags, so each step covers only part
  # of the distance.
  move = np.clip(0.2 * (wanted - robot[:3]) / 0.02, -1.0, 1.0)
  return np.array([*move, 0.0, 0.0, 0.0, -1.0], np.float32)


def play(address: str) -> None:
  """Plays both episodes."""
  domain = calvin.Calvin(address, observations=_STATES)
  evaluator = evaluation.Evaluator(domain, num_episodes=1, seed=0)
  idle = evaluator.run(lambda observation, seed: _IDLE)
  (episode,) = idle.episodes
  print(
      f'idle: {episode.num_steps} steps, last discount'
      f' {episode.discount[-1]:.0f}, maximum reward {episode.reward.max():.0f},'
      f' score {idle.score:.0f}'
  )
  assert idle.score == 0 and episode.num_steps == domain.max_episode_steps

  steps = iter(range(domain.max_episode_steps))
  pressed = evaluator.run(
      lambda observation, seed: press(observation['robot'][0], next(steps))[
          np.newaxis
      ]
  )
  (episode,) = pressed.episodes
  changes = np.flatnonzero(np.diff(episode.reward)) + 1
  print(
      f'button: reward {episode.reward[0]:.0f}, then from steps'
      f' {changes.tolist()} {episode.reward[changes].tolist()}, score'
      f' {pressed.score:.0f}'
  )
  assert pressed.score == 25


def measure(address: str, observations: Sequence[str]) -> None:
  """Prints shapes and steps per second of an idle robot."""
  domain = calvin.Calvin(address, observations=observations)
  environment = domain.make_environment(0, evaluation=True)
  shapes = tree.map_structure(np.shape, environment.reset().observation)
  start = time.perf_counter()
  for _ in range(_NUM_STEPS[observations]):
    environment.step(_IDLE[0])
  rate = _NUM_STEPS[observations] / (time.perf_counter() - start)
  print(f'{shapes}: {rate:.1f} steps/s')
  environment.close()


def main(argv: Sequence[str]) -> None:
  """Plays the episodes, then measures."""
  del argv
  play(_ADDRESS.value)
  measure(_ADDRESS.value, _STATES)
  measure(_ADDRESS.value, _IMAGES)


if __name__ == '__main__':
  app.run(main)
