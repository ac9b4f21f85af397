"""Keeps the networks of a run's best online evaluation.

Success may fall after its peak. `best` in a run's directory then still has the
networks of the peak: a TensorFlow checkpoint, and `best.json` with the metrics
of that evaluation. Of a policy that another process serves, the checkpoint has
the critic, and `best.json` the version of the policy's weights.
"""

import contextlib
import json
import os
from typing import Any, Dict, Iterator, Mapping, Optional

from absl import logging
import tensorflow as tf

from parl_tf import synced_file
from parl_tf.training import network_files
from parl_tf.training import run_summary
from parl_tf.training import setbacks

_FOLDER = 'best'
_DESCRIPTION = 'best.json'
_NETWORKS = 'networks'


def directory(root_dir: str) -> str:
  """Returns the directory of a run's best networks."""
  return os.path.join(root_dir, _FOLDER)


class BestPolicies:
  """The networks of the evaluation with the highest success rate.

  An evaluation counts with the larger of its rates, with search and alone,
  because either policy can be deployed. Of equal ones, the other rate decides,
  then the mean return with search. Of equal evaluations, the later one is kept.
  """

  def __init__(self, root_dir: str, agent):
    """Initializes the object; a resumed run continues with its best.

    Args:
      root_dir: The run's directory.
      agent: `PARLAgent`.
    """
    self._directory = directory(root_dir)
    items = agent.checkpoint_items
    self._policy = agent.generative_policy
    self._is_served = getattr(self._policy, 'is_served', False)
    names = ('critic',) if self._is_served else ('generative_policy', 'critic')
    self._items: Dict[str, Any] = {
        name: items[name] for name in names if name in items
    }
    self._train_step = agent.train_step_counter
    self.best = self._read()
    self._has_warned = False

  def offer(
      self,
      metrics: Mapping[str, Any],
      episodes: int,
      num_evaluations: int = 1,
  ) -> None:
    """Keeps the current networks if their evaluation is the best so far.

    Warns of the first one that is worse by more than chance explains. A failed
    write is logged; the previous best then stays. Of a policy whose server
    saves no versions, nothing is kept.

    Args:
      metrics: `RunState.latest`.
      episodes: Online episodes so far.
      num_evaluations: See `exceeds`.
    """
    if self._is_served and not self._policy.client.can_save:
      return
    alone = metrics['success_rate_without_search']
    outcomes = setbacks.better_outcomes(metrics)
    mean_return = metrics.get(
        'mean_return', metrics['mean_return_without_search']
    )
    found = run_summary.BestEvaluation(
        episodes=episodes,
        train_step=int(self._train_step.numpy()),
        success_rate=float(metrics.get('success_rate', alone)),
        success_rate_without_search=float(alone),
        num_evaluation_episodes=int(metrics['num_evaluation_episodes']),
        mean_return=float(mean_return),
        outcomes=outcomes,
        policy_version=self._policy.version if self._is_served else '',
    )
    if self.best is not None and found.order < self.best.order:
      if self.exceeds(metrics, num_evaluations):
        self._warn_of_fall(self.best, found)
      return
    if network_files.replace(
        self._directory,
        {_NETWORKS: self._items},
        _DESCRIPTION,
        found._asdict(),
    ):
      self.best = found
      self._has_warned = False

  def exceeds(
      self, latest: Mapping[str, Any], num_evaluations: int = 1
  ) -> bool:
    """Returns whether the best is better than `latest` by more than chance.

    Args:
      latest: The last evaluation; see `setbacks.better_outcomes`.
      num_evaluations: Number of online evaluations so far.
    """
    return self.best is not None and setbacks.is_worse(
        setbacks.better_outcomes(latest),
        self.best.outcomes,
        num_compared=num_evaluations - 1,
    )

  def read(self) -> None:
    """Gives the agent the best networks.

    The server of a policy keeps the version that it has.
    """
    tf.train.Checkpoint(**self._items).read(
        os.path.join(self._directory, _NETWORKS)
    ).assert_consumed()

  @contextlib.contextmanager
  def restored(self) -> Iterator[None]:
    """Lets the agent have the best networks for the duration of the context.

    See `read`.
    """
    variables = [
        variable
        for item in self._items.values()
        for variable in item.variables
    ]
    current = [variable.numpy() for variable in variables]
    self.read()
    try:
      yield
    finally:
      for variable, value in zip(variables, current, strict=True):
        variable.assign(value)

  def _warn_of_fall(
      self,
      best: run_summary.BestEvaluation,
      latest: run_summary.BestEvaluation,
  ) -> None:
    """Warns once of a fall since the best evaluation."""
    if self._has_warned:
      return
    self._has_warned = True
    logging.warning(
        'Success has fallen from %.0f %% after %d episodes to %.0f %%. The best'
        ' networks are kept in %s. For causes, see docs/troubleshooting.md.',
        100.0 * best.better_rate,
        best.episodes,
        100.0 * latest.better_rate,
        self._directory,
    )

  def _read(self) -> Optional[run_summary.BestEvaluation]:
    synced_file.restore_directory(self._directory)
    path = os.path.join(self._directory, _DESCRIPTION)
    try:
      with open(path, encoding='utf-8') as file:
        fields = json.load(file)
      # Versions before `mean_return` did not write it; summaries need it. Those
      # before `outcomes` are kept, but no fall since them is recognized.
      has_return = 'mean_return' in fields
      return run_summary.BestEvaluation(**fields) if has_return else None
    except FileNotFoundError:
      return None
    except (TypeError, ValueError) as error:
      logging.error('%s is damaged, and is ignored: %s', path, error)
      return None
