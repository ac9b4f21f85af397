"""The episodes of a run's dataset, and their statistics."""

import hashlib
import os
import tempfile
from typing import List, Optional, Sequence

from absl import logging
import gin
import numpy as np

from parl_tf import picture_store
from parl_tf import synced_file
from parl_tf import types
from parl_tf.datasets import episodes as episodes_lib
from parl_tf.datasets import generate
from parl_tf.datasets import reading
from parl_tf.domains import domain as domain_lib
from parl_tf.replay import returns
from parl_tf.training import checkpoint
from parl_tf.training import progress

# Episodes whose returns are compared with the critic's range.
_NUM_CHECKED = 100
_RANGE_TOLERANCE = 1e-3  # Of the width of the range.


@gin.configurable('load_dataset', denylist=['path', 'domain', 'directory'])
def load(
    path: str,
    domain,
    directory: Optional[str] = None,
    *,
    picture_memory_bytes: int = 4 * 2**30,
) -> List[types.Episode]:
  """Reads the episodes of a dataset.

  Args:
    path: File or directory in a format of `datasets.formats`.
    domain: `Domain` of the task.
    directory: Directory of the file for pictures that are not held in memory;
      None takes the system's directory of temporary files.
    picture_memory_bytes: Bytes of pictures to hold in memory. If the dataset
      has more, all of them are in a file, from which rows are read.

  Raises:
    OSError: If the dataset does not exist, or there is no space for the file.
    ValueError: If the dataset is invalid or does not fit the domain.
  """

  def make_store(num_pictures):
    return picture_store.PictureStore(
        num_pictures,
        directory or tempfile.gettempdir(),
        picture_memory_bytes,
    )

  episodes = list(
      reading.read_episodes(
          path, make_store=make_store, **domain.dataset_options()
      )
  )
  logging.info(
      'Read %d episodes, %d steps, from %s.',
      len(episodes),
      sum(e.num_steps for e in episodes),
      path,
  )
  return episodes


def set_aside(path: str) -> None:
  """Renames a dataset, if there is one, that this configuration did not record.

  Another configuration recorded it, or somebody put it there. A later start of
  this configuration must not take it for its own.
  """
  if not os.path.exists(path):
    return
  kept = synced_file.free_path(path, 'replaced')
  os.rename(path, kept)
  logging.warning(
      '%s is not of this configuration and is now %s. To train on it, bind'
      ' `run_experiment.dataset_path`.',
      path,
      kept,
  )


def record(
    path: str, domain, *, num_steps: Optional[int], seed: int, play: bool
) -> None:
  """Records a dataset with the domain's controller.

  Args:
    path: The file.
    domain: `Domain` of the task.
    num_steps: Environment steps of the dataset.
    seed: Its seed.
    play: Whether to record play instead of attempts at the task.

  Raises:
    ValueError: If there is no number of steps, or the domain cannot record.
  """
  if num_steps is None:
    raise ValueError(
        'Either `run_experiment.dataset_path` or'
        ' `run_experiment.num_recorded_steps` must be given.'
    )
  generate.record_task(
      path,
      domain,
      num_steps=num_steps,
      seed=seed,
      play=play,
      make_progress=progress.Progress,
      repeat=domain_lib.act_until_kept,
  )


def recordings(episodes: Sequence[types.Episode]) -> List[List[int]]:
  """Groups the indices of episodes that were recorded without a break.

  A task ends an episode wherever a recording of play solves it.

  Args:
    episodes: Episodes of a dataset, in its order.
  """
  groups: List[List[int]] = []
  for i in range(len(episodes)):
    if i and episodes[i - 1].is_continued:
      groups[-1].append(i)
    else:
      groups.append([i])
  return groups


def are_attempts(episodes: Sequence[types.Episode]) -> bool:
  """Returns whether each episode is an attempt at the task, not part of play.

  Args:
    episodes: Episodes of a dataset, in its order.
  """
  return len(recordings(episodes)) == len(episodes)


def success_rate(domain, episodes: Sequence[types.Episode]) -> Optional[float]:
  """Returns the share of successful episodes; None for play.

  Args:
    domain: `Domain`.
    episodes: Episodes of a dataset, in its order.
  """
  if not are_attempts(episodes):
    return None
  return domain_lib.mean_over(episodes, domain.is_success)


def digest(episodes: Sequence[types.Episode]) -> int:
  """Returns a number that identifies a recording; ignores observations.

  Args:
    episodes: Episodes of a dataset, in its order.
  """
  found = hashlib.blake2b(digest_size=8)
  for episode in episodes:
    found.update(str(episode.num_steps).encode())
    for name in types.EPISODE_STEP_DTYPES:
      found.update(np.asarray(getattr(episode, name)).tobytes())
  return int.from_bytes(found.digest(), 'big') >> 1  # Fits an int64.


def check_unchanged(
    root_dir: str, state: checkpoint.RunState, episodes: Sequence[types.Episode]
) -> int:
  """Returns the digest of the data, with which a run begins or goes on.

  Args:
    root_dir: Directory of the run.
    state: State of the run, which keeps the digest.
    episodes: Episodes of the dataset.

  Raises:
    ValueError: If the run began with other data.
  """
  found = digest(episodes)
  if state.dataset_digest not in (0, found):
    raise ValueError(
        f'{root_dir}: the dataset must be the one with which the run began, but'
        f' its actions, rewards or ends differ; it has {len(episodes)} episodes'
        ' now. Restore it, or give another --root_dir.'
    )
  state.dataset_digest = found
  return found


def start_critic(agent, domain, episodes: Sequence[types.Episode]) -> None:
  """Starts a critic that asks for it at the mean value of the data.

  Warns if a critic's histogram does not contain the returns of the data.

  Args:
    agent: Agent without trained weights.
    domain: `Domain` of the task.
    episodes: The episodes of the dataset.
  """
  critic = getattr(agent, 'critic', None)
  if critic is None:
    return
  _check_value_range(critic, domain, episodes)
  if not critic.starts_from_data:
    return
  scaled = []
  for episode in episodes:
    rewards = domain.reward_scale * episode.reward + domain.reward_bias
    if critic.terminals_from_reward:
      scaled.append((rewards, rewards < 0.0))
    else:
      scaled.append((rewards, episode.discount))
  value = returns.mean_value(scaled, critic.gamma)
  logging.info('Critic: starts at %.3g, the mean value of the data.', value)
  critic.start_at(value)


def _check_value_range(critic, domain, episodes) -> None:
  """Warns if the return of an ended episode is outside the critic's range."""
  if critic.value_range is None or critic.terminals_from_reward:
    return
  low, high = critic.value_range
  tolerance = _RANGE_TOLERANCE * (high - low)
  for episode in episodes[:_NUM_CHECKED]:
    if episode.discount[-1] != 0:
      continue  # The rest of its return is unknown.
    rewards = domain.reward_scale * episode.reward + domain.reward_bias
    value = 0.0
    for step in range(episode.num_steps - 1, -1, -1):
      value = float(rewards[step]) + critic.gamma * value
      if not low - tolerance <= value <= high + tolerance:
        logging.warning(
            'Episode %d has a return of %.4g from step %d on, but the critic'
            ' represents values from %.4g to %.4g (`%s.value_range`,'
            ' `HLGauss`).',
            episode.episode_id,
            value,
            step,
            low,
            high,
            domain.name,
        )
        return


def statistics(
    domain, episodes: Sequence[types.Episode]
) -> types.Normalization:
  """Returns the statistics with which networks are built.

  Args:
    domain: `Domain` of the task, whose own statistics of observations come
      first.
    episodes: The episodes of the dataset.
  """
  found = domain.normalization
  if found is None:
    found = episodes_lib.normalization(episodes)
  return found._replace(
      action_range=episodes_lib.action_range(episodes),
      action_deviation=episodes_lib.action_deviation(episodes),
  )
