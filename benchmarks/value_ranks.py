"""Tells whether a critic values states by their time to success.

  parl-data generate experiments/calvin_play_small.gin \
    --output runs/calvin_new.hdf5 --num_steps 2000 --seed 1
  python -m benchmarks.value_ranks --root_dir runs/calvin/offline/seed_0 \
    --dataset_path runs/calvin_new.hdf5

Prints the rank correlation (Spearman) of Q(s, a), the mean over the members at
the data's actions, with the number of steps to the episode's first success:
over all steps before a success, and its mean over the episodes with at least
ten such steps. It is -1 for a critic that ranks them perfectly.
"""

from typing import Iterable, List, NamedTuple, Sequence

from absl import app
from absl import flags
import numpy as np
from scipy import stats
import tensorflow as tf

from parl_tf import frame_stack
from parl_tf import types
from parl_tf.binaries import restored_run
from parl_tf.datasets import reading

_BATCH_SIZE = 128  # States evaluated at once.
_MIN_STEPS = 10  # Of an episode with a correlation of its own.


class Steps(NamedTuple):
  """The steps of an episode before its first success.

  Attributes:
    values: `[T]` values.
    remaining: `[T]` steps to the success, T to 1.
  """

  values: np.ndarray
  remaining: np.ndarray


def value_steps(agent, episodes: Iterable[types.Episode]) -> List[Steps]:
  """Values the steps before the first success of each successful episode.

  Args:
    agent: `PARLAgent` with a critic of single actions.
    episodes: Episodes in any order.
  """
  found = []
  for episode in episodes:
    if not np.any(episode.success):
      continue
    num_steps = int(np.argmax(episode.success)) + 1
    values: List[float] = []
    for start in range(0, num_steps, _BATCH_SIZE):
      index = np.arange(start, min(start + _BATCH_SIZE, num_steps))
      observation = tf.nest.map_structure(
          tf.constant,
          frame_stack.read_episode(
              episode.observation, index, agent.num_frames
          ),
      )
      actions = tf.constant(episode.action[index][:, np.newaxis])
      values.extend(agent.critic.bind(observation)(actions)[:, 0].numpy())
    found.append(Steps(np.array(values), np.arange(num_steps, 0, -1)))
  return found


def describe(steps: Sequence[Steps]) -> str:
  """Returns the correlations as text."""
  values, remaining = map(np.concatenate, zip(*steps))
  own = [
      stats.spearmanr(x.values, x.remaining).statistic
      for x in steps
      if len(x.values) >= _MIN_STEPS
  ]
  return (
      f'{len(values)} steps of {len(steps)} successful episodes: rank'
      f' correlation {stats.spearmanr(values, remaining).statistic:.2f},'
      f' mean within {len(own)} episodes {np.mean(own):.2f}'
  )


def main(argv: Sequence[str]) -> None:
  """Runs the command."""
  del argv
  options = flags.FLAGS
  agent, domain = restored_run.restore(options.root_dir)
  episodes = reading.read_episodes(
      options.dataset_path, **domain.dataset_options()
  )
  steps = value_steps(agent, episodes)
  if not steps:
    raise app.UsageError(f'{options.dataset_path} has no successful episode.')
  print(describe(steps))


def run() -> None:
  """Defines the flags and runs the command."""
  flags.DEFINE_string('root_dir', None, 'Run with a critic.', required=True)
  flags.DEFINE_string('dataset_path', None, 'Dataset.', required=True)
  app.run(main)


if __name__ == '__main__':
  run()
