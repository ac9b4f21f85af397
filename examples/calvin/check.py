"""Checks which events CALVIN's environment detects, and measures its speed.

  PYTHONPATH=calvin_env theirs/bin/python examples/calvin/check.py

Moves each joint just short of and just beyond the threshold of its sub-task,
lets the robot idle for an episode, and measures steps per second.
"""

import sys
import time

import calvin_environment
import gymnasium
import numpy as np

_EPISODE_STEPS = 360
_IDLE = np.array([0, 0, 0, 0, 0, 0, 1], np.float32)
_STATES = 'robot,scene'
_IMAGES = 'robot,static,gripper'


def make(observations):
  """Returns the environment with the given observations."""
  return gymnasium.make('Calvin-v0', observations=observations)


def tell(line):
  """Prints a line."""
  sys.stdout.write(line + '\n')


def find_joints(table):
  """Returns each sub-task's joint, and its unsolved and solved positions.

  Positions are in metres. CALVIN's thresholds are 0.12 for the drawer and 0.15
  for the door. A light toggles when its switch or button passes the middle.
  """
  doors = {door.name: door for door in table.scene.doors}
  (switch,), (button,) = table.scene.switches, table.scene.buttons
  return {
      'open_drawer': (doors['base__drawer'], 0.11, 0.13),
      'turn_on_lightbulb': (switch, 0.4 * switch.ul, 0.6 * switch.ul),
      'move_slider_left': (doors['base__slide'], 0.14, 0.16),
      'turn_on_led': (button, 0.4 * button.ul, 0.6 * button.ul),
  }


def move(environment, joint, position):
  """Moves a joint as an arm would; returns the step after the motion."""
  joint.reset(position)
  # Buttons spring back in the next step.
  environment.unwrapped.table.scene.step()
  return environment.step(_IDLE)


def check_sub_tasks(environment):
  """Solves each sub-task separately, then one after another."""
  for name in calvin_environment.SUB_TASKS:
    environment.reset(seed=0)
    joint, short, beyond = find_joints(environment.unwrapped.table)[name]
    before, after = [
        move(environment, joint, position)[4]['solved']
        for position in (short, beyond)
    ]
    tell(f'{name}: {short:.3f} m solves {before}, {beyond:.3f} m {after}')
    assert (before, after) == ([], [name])
  environment.reset(seed=0)
  joints = find_joints(environment.unwrapped.table)
  steps = [move(environment, j, beyond) for j, _, beyond in joints.values()]
  rewards, ends = [step[1] for step in steps], [step[2] for step in steps]
  tell(f'one after another: rewards {rewards}, episode ends: {ends}')
  assert rewards == [1, 2, 3, 4] and ends == [False, False, False, True]


def check_idle(environment):
  """Lets the robot idle for an episode."""
  environment.reset(seed=0)
  steps = [environment.step(_IDLE) for _ in range(_EPISODE_STEPS)]
  rewards = [step[1] for step in steps]
  tell(f'idle for {len(steps)} steps: maximum reward {max(rewards)}')
  assert not any(rewards)


def measure(observations, num_steps):
  """Prints the steps per second of an idle robot."""
  environment = make(observations)
  observation, _ = environment.reset(seed=0)
  start = time.perf_counter()
  for _ in range(num_steps):
    environment.step(_IDLE)
  rate = num_steps / (time.perf_counter() - start)
  start = time.perf_counter()
  environment.reset(seed=1)
  seconds = time.perf_counter() - start
  shapes = {name: array.shape for name, array in observation.items()}
  tell(f'{shapes}: {rate:.1f} steps/s, {seconds:.2f} s per reset')
  environment.close()


def main():
  """Runs the checks, then the measurements."""
  environment = make(_STATES)
  check_sub_tasks(environment)
  check_idle(environment)
  environment.close()
  measure(_STATES, 300)
  measure(_IMAGES, 30)


if __name__ == '__main__':
  main()
