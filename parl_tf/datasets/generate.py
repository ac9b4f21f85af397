"""Records episodes and datasets with a noisy controller."""

import functools
from typing import Any, Callable, Iterator, Mapping, Optional, Sequence

from absl import logging
import gin
import numpy as np
import tree

from parl_tf import episode_builder
from parl_tf.datasets import d4rl
from parl_tf.datasets import d4rl_writer
from parl_tf.datasets import episodes

_MAX_DROPPED = 10  # episodes in a row


@gin.configurable(
    denylist=[
        'environment', 'controller', 'num_steps', 'seed', 'progress', 'repeat'
    ]
)
def generate(
    environment: Any,
    controller: Any,
    *,
    num_steps: int,
    seed: int,
    min_noise: float = 0.1,
    max_noise: float = 0.5,
    noise_factors: Optional[Sequence[float]] = None,
    progress: Optional[Callable[[int], None]] = None,
    repeat: Callable[[Callable[[], Any]], Any] = lambda record: record(),
) -> Iterator[episodes.Recording]:
  """Yields episodes with `num_steps` environment steps in total.

  Each episode draws the standard deviation of its noise uniformly from
  [`min_noise`, `max_noise`]. Each action is the controller's plus independent
  Gaussian noise, clipped to [-1, 1], and is stored as executed. An episode
  depends only on `seed` and its number. Episodes that the environment declares
  unfit (`may_be_recorded`) are dropped and do not count. The last episode is
  truncated, like a timeout, when the total number of steps is reached.

  Args:
    environment: `domains.domain.Environment`.
    controller: Object with `reset`, `action` and `info`.
    num_steps: Total environment steps.
    seed: Non-negative seed of the episodes.
    min_noise: Minimum standard deviation, in units of the action range [-1, 1].
    max_noise: Maximum standard deviation, in the same units.
    noise_factors: `[A]` factors on the noise of each action dimension; None
      means 1.
    progress: Called after each episode with the number of steps so far.
    repeat: Calls a function that records an episode until none is lost, and
      returns the result, such as `domains.domain.act_until_kept`.

  Returns:
    Iterator of recordings.

  Raises:
    ValueError: If an argument is out of range. The call itself raises, before
      any episode is recorded. The iterator raises if ten episodes in a row have
      an observation or reward that is not finite; single ones are dropped.
  """
  if num_steps < 1:
    raise ValueError(f'`num_steps` must be at least 1, got {num_steps}.')
  if seed < 0:
    raise ValueError(f'`seed` must not be negative, got {seed}.')
  if not 0 <= min_noise <= max_noise:
    raise ValueError(
        '`min_noise` and `max_noise` must satisfy 0 <= min_noise <= max_noise,'
        f' got {min_noise} and {max_noise}.'
    )
  factors = 1.0 if noise_factors is None else np.array(noise_factors)
  if np.any(factors < 0):
    raise ValueError(
        f'`noise_factors` must not be negative, got {noise_factors}.'
    )

  if max_noise:
    logging.info(
        "Adding noise to the controller's actions: standard deviation %g to %g"
        ' (`generate.min_noise`, `generate.max_noise`).',
        min_noise,
        max_noise,
    )

  def record(number, max_steps):
    random = np.random.default_rng([seed, number])
    noise = random.uniform(min_noise, max_noise) * factors
    try:
      return _record(environment, controller, random, number, max_steps, noise)
    except BaseException:
      environment.abandon()  # Also on Ctrl-C: a robot must not keep moving.
      raise

  def record_all():
    step = number = num_dropped = 0
    while step < num_steps:
      recording = repeat(
          functools.partial(record, number, max_steps=num_steps - step)
      )
      number += 1
      if recording is None:
        num_dropped += 1
        logging.warning(
            'Dropping episode %d: an observation or reward is not finite.',
            number - 1,
        )
        if num_dropped == _MAX_DROPPED:
          raise ValueError(
              f'{_MAX_DROPPED} episodes in a row have an observation or reward'
              ' that is not finite.'
          )
        continue
      num_dropped = 0
      if not environment.may_be_recorded():
        logging.info(
            'Dropping episode %d: the environment declares it unfit for a'
            ' dataset.',
            number - 1,
        )
        continue
      step += recording.episode.num_steps
      if progress is not None:
        progress(step)
      yield recording

  return record_all()


def record_dataset(
    path: str,
    environment: Any,
    controller: Any,
    *,
    num_steps: int,
    seed: int,
    metadata: Optional[Mapping[str, Any]] = None,
    keeps_unfinished: bool = False,
    **options: Any,
) -> None:
  """Writes the episodes of `generate` to a file in D4RL's layout.

  Args:
    path: File to write. It appears only when it is complete.
    environment: See `generate`.
    controller: See `generate`.
    num_steps: Total environment steps.
    seed: Non-negative seed, which determines the contents of the file.
    metadata: Attributes stored in addition to `num_steps`, `seed` and the gin
      configuration.
    keeps_unfinished: Whether the complete episodes are kept if an error or
      Ctrl-C ends the recording; see `d4rl_writer.EpisodeFile`.
    **options: `progress` and `repeat` of `generate`.

  Raises:
    ValueError: If an argument is out of range. No file is written.
  """
  recordings = generate(
      environment,
      controller,
      num_steps=num_steps,
      seed=seed,
      **options,
  )
  metadata = {
      'num_steps': num_steps,
      'seed': seed,
      'gin_config': gin.config_str(),
      **(metadata or {}),
  }
  with d4rl_writer.EpisodeFile(
      path, metadata=metadata, keeps_unfinished=keeps_unfinished
  ) as file:
    for recording in recordings:
      file.append(recording.episode, recording.infos)


def record_task(
    path: str,
    domain: Any,
    *,
    num_steps: int,
    seed: int,
    play: bool = False,
    make_progress: Callable[[str, int], Any],
    repeat: Callable[[Callable[[], Any]], Any],
    metadata: Optional[Mapping[str, Any]] = None,
) -> None:
  """Records a dataset of a domain with the domain's own controller.

  Bindings in the gin scope `play`, such as `play/generate.max_noise`, apply to
  play only. If an error or Ctrl-C ends the recording of a domain with
  `max_environments`, such as a robot, its complete episodes are kept.

  Args:
    path: File to write. It appears only when it is complete.
    domain: `domains.domain.Domain`.
    num_steps: Total environment steps.
    seed: Non-negative seed, which determines the contents of the file.
    play: Whether to record play without a goal instead of attempts at the task.
    make_progress: Takes a label and the number of steps; returns a context
      manager that shows progress.
    repeat: See `generate`.
    metadata: See `record_dataset`.

  Raises:
    ValueError: If an argument is out of range, or the domain has no such
      controller. No file is written.
  """
  with gin.config_scope('play' if play else None):
    environment, controller = domain.make_recorder(seed, play=play)
    with environment, make_progress('data', num_steps) as bar:
      record_dataset(
          path,
          environment,
          controller,
          num_steps=num_steps,
          seed=seed,
          metadata={
              'play': play,
              d4rl.BOUNDS: np.asarray(domain.raw_action_bounds, np.float32),
              **(metadata or {}),
          },
          keeps_unfinished=domain.max_environments is not None,
          progress=bar.update,
          repeat=repeat,
      )


def _record(
    environment, controller, random, number, max_steps, noise
) -> Optional[episodes.Recording]:
  """Records one episode of at most `max_steps` environment steps.

  Returns:
    The episode; None if an observation or reward is not finite.
  """
  environment.seed(int(random.integers(2**31)))
  controller.reset(int(random.integers(2**31)))
  time_step = environment.reset()
  builder, infos = episode_builder.EpisodeBuilder(), []
  builder.add_observation(time_step.observation)
  while not time_step.last() and builder.num_steps < max_steps:
    action = controller.action(time_step, environment)
    action = action + noise * random.standard_normal(action.shape)
    action = np.clip(action, -1.0, 1.0).astype(np.float32)
    info = {**environment.info(), **controller.info()}
    time_step = environment.step(action)
    if not _is_finite((time_step.observation, time_step.reward)):
      environment.abandon()
      return None
    infos.append({**info, **environment.step_info()})
    builder.add_step(
        action, time_step.reward, time_step.discount, environment.is_success()
    )
    builder.add_observation(time_step.observation)
  if not time_step.last():
    environment.abandon()
  return episodes.Recording(
      builder.build(number), tree.map_structure(lambda *x: np.stack(x), *infos)
  )


def _is_finite(nest) -> bool:
  """Returns whether all floating point numbers are finite."""
  return all(
      np.isfinite(x).all()
      for x in tree.flatten(nest)
      if np.issubdtype(np.asarray(x).dtype, np.floating)
  )
