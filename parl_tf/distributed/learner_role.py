"""The learner role: trains on the episodes of the collectors."""

import functools
from typing import Optional

import gin
import tensorflow as tf

from parl_tf.distributed import remote_source
from parl_tf.training import experiment
from parl_tf.training import phases
from parl_tf.training import run_summary


def learn(
    root_dir: str,
    seed: int,
    address: str,
    strategy: Optional[tf.distribute.Strategy] = None,
) -> run_summary.RunSummary:
  """Runs or resumes the experiment that gin describes.

  Args:
    root_dir: Directory of the learner.
    seed: Non-negative integer seed of the run.
    address: `host:port` of a replay service with the same gin files.
    strategy: See `run_experiment`.

  Returns:
    The summary of the run.

  Raises:
    ValueError: As in `run_experiment`, or if the online phase collects its own
      episodes, or there is none.
  """
  online_ctor = gin.get_bindings(experiment.run_experiment).get(
      'online_ctor', phases.Online
  )
  if not issubclass(online_ctor, phases.Online):
    raise ValueError(
        '`run_experiment.online_ctor` must be `Online` if other processes '
        f'collect the episodes, got {online_ctor.__name__}.'
    )
  phase_names = gin.get_bindings(experiment.run_experiment).get('phase_names')
  if phase_names is not None and 'online' not in phase_names:
    raise ValueError(
        "`run_experiment.phase_names` must have 'online', for which collectors"
        f' wait, got {list(phase_names)}. `parl-train` runs other phases.'
    )
  return experiment.run_experiment(
      root_dir,
      seed,
      functools.partial(remote_source.RemoteSource, address),
      strategy,
  )
