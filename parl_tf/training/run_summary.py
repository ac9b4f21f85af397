"""The results of a run, stored in `summary.json`."""

import json
import math
import os
from typing import Mapping, NamedTuple, Optional, Tuple

import numpy as np

from parl_tf import synced_file
from parl_tf.reports import run_files

PHASES = ('behavior_cloning', 'offline', 'online')


class PhaseSummary(NamedTuple):
  """Results at the end of a phase.

  Attributes:
    success_rate: Success rate with search, 0 to 1; None without a critic.
    success_rate_without_search: Success rate of the policy alone; None, like
      the score, if nothing is evaluated.
    score: The domain's score, 0 to 100.
    num_evaluation_episodes: Episodes of each evaluation.
    train_steps: Gradient steps of this phase.
    env_steps: Environment steps of this phase.
    wall_seconds: Seconds of this phase.
    steps_to_success: Mean environment steps to success, over the successful
      episodes with search; None if there are none.
    steps_to_success_without_search: Mean environment steps to success of the
      policy alone.
    mean_return: Mean undiscounted return with search.
    mean_return_without_search: Mean undiscounted return of the policy alone.
    outcomes: A 1 or a 0 for each evaluation episode with search, success or
      failure. Evaluations of a run share their start states.
    outcomes_without_search: The same of the policy alone.
  """

  success_rate: Optional[float]
  success_rate_without_search: Optional[float]
  score: Optional[float]
  num_evaluation_episodes: int
  train_steps: int
  env_steps: int
  wall_seconds: float
  steps_to_success: Optional[float] = None
  steps_to_success_without_search: Optional[float] = None
  mean_return: Optional[float] = None
  mean_return_without_search: Optional[float] = None
  outcomes: Optional[str] = None
  outcomes_without_search: Optional[str] = None


class BestEvaluation(NamedTuple):
  """The best online evaluation of a run.

  Attributes:
    episodes: Online episodes before it, the warm-up included.
    train_step: Training steps of all phases before it.
    success_rate: Success rate with search; without a critic, of the policy.
    success_rate_without_search: Success rate of the policy alone.
    num_evaluation_episodes: Number of its episodes.
    mean_return: Mean return with search; without a critic, of the policy.
    policies: Paths of its exported policies, by name.
    outcomes: A 1 or a 0 for each episode of the better policy, success or
      failure.
    policy_version: Version of the weights of a policy that another process
      serves; '' for others.
  """

  episodes: int
  train_step: int
  success_rate: float
  success_rate_without_search: float
  num_evaluation_episodes: int
  mean_return: float = -math.inf
  policies: Mapping[str, str] = {}
  outcomes: str = ''
  policy_version: str = ''

  @property
  def better_rate(self) -> float:
    """The larger of the two success rates."""
    return max(self.success_rate, self.success_rate_without_search)

  @property
  def order(self) -> Tuple[float, float, float]:
    """Larger for a better evaluation."""
    return (
        self.better_rate,
        min(self.success_rate, self.success_rate_without_search),
        self.mean_return,
    )


class RunSummary(NamedTuple):
  """Contents of `summary.json`.

  Attributes:
    seed: The run's seed.
    domain: The domain's name.
    wall_seconds: Seconds of the whole run.
    controller_success_rate: Success rate of the domain's controller, if any.
    phases: Results by name, one of `PHASES`.
    policies: Paths of the exported policies, by name.
    initial_run: Where the run began; None if it started from scratch.
    data_success_rate: Share of successful episodes in the offline data; None if
      the run did not record it, or these are parts of play, which are no
      attempts at the task.
    best: The best online evaluation, if the last one is worse by more than
      chance explains.
    policy_version: Last version of the weights of a policy that another process
      serves; '' for others.
  """

  seed: int
  domain: str
  wall_seconds: float
  controller_success_rate: Optional[float]
  phases: Mapping[str, PhaseSummary]
  policies: Mapping[str, str]
  initial_run: Optional[run_files.InitialRun] = None
  data_success_rate: Optional[float] = None
  best: Optional[BestEvaluation] = None
  policy_version: str = ''


def write(path: str, summary: RunSummary) -> None:
  """Writes a summary as JSON atomically.

  Args:
    path: File to write; its directory is created if it is missing.
    summary: Results to write.

  Raises:
    ValueError: If a phase is unknown or a number is not finite.
  """
  unknown = sorted(set(summary.phases) - set(PHASES))
  if unknown:
    raise ValueError(f'`phases` must be some of {list(PHASES)}, got {unknown}.')
  content = summary._asdict()
  content['phases'] = {
      name: phase._asdict() for name, phase in summary.phases.items()
  }
  content['policies'] = {
      name: str(policy) for name, policy in summary.policies.items()
  }
  if summary.initial_run is not None:
    content['initial_run'] = summary.initial_run._asdict()
  if summary.best is not None:
    content['best'] = summary.best._asdict()
  text = json.dumps(content, indent=2, allow_nan=False, default=_plain_number)
  os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
  with synced_file.write(path) as file:
    file.write((text + '\n').encode())


def read(path: str) -> RunSummary:
  """Reads a summary that `write` wrote.

  Args:
    path: The file.

  Raises:
    OSError: If the file does not exist.
  """
  with open(path, encoding='utf-8') as file:
    content = json.load(file)
  content['phases'] = {
      name: PhaseSummary(**numbers)
      for name, numbers in content['phases'].items()
  }
  # Versions before `initial_run` did not write it.
  initial_run = content.pop('initial_run', None)
  if initial_run is not None:
    initial_run = run_files.InitialRun(**initial_run)
  if content.get('best') is not None:
    content['best'] = BestEvaluation(**content['best'])
  return RunSummary(**content, initial_run=initial_run)


def _plain_number(value):
  if isinstance(value, (np.integer, np.floating)):
    return value.item()
  raise TypeError(f'Cannot write {value!r} of type {type(value)} as JSON.')
