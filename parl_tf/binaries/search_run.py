"""Plays episodes with several action searches of one run, without training."""

import contextlib
import csv
import os
from typing import Any, Dict, List, Sequence, Tuple

from absl import logging
import gin
import numpy as np
import tensorflow as tf

from parl_tf import frame_stack
from parl_tf import synced_file
from parl_tf.agents import parl_policy
from parl_tf.binaries import restored_run
from parl_tf.binaries import search_outputs
from parl_tf.binaries import search_settings
from parl_tf.search import acting_search
from parl_tf.search import action_optimizer
from parl_tf.search import action_source
from parl_tf.search import ranking
from parl_tf.training import evaluation
from parl_tf.training import progress
from parl_tf.training import run_directory

FINAL = 'final'
"""The round whose episodes no choice depends on."""

COLUMNS = (
    *search_settings.Setting._fields,
    *('limit', 'num_episodes', 'success_rate', 'outcomes', 'steps_to_success'),
    *('mean_return', 'start_value', 'ascent_gain', 'gin_bindings'),
    *('round', 'train_step'),
)
"""Columns of the file; `limit` is in environment steps."""

# The purposes of `evaluation` are smaller.
_ROUND_PURPOSE = 16


def search(
    root_dir: str,
    checkpoint: str,
    axes: search_settings.Axes,
    *,
    num_episodes: int,
    num_rounds: int,
    num_final_episodes: int,
    gin_bindings: Sequence[str] = (),
) -> str:
  """Compares searches; returns a table of the results, and how to use them.

  Args:
    root_dir: The run's directory. Afterwards, gin holds its configuration.
    checkpoint: 'last', 'offline' or 'best'.
    axes: The grid of searches. Unless there is one round, the run's own search
      and the policy alone are added.
    num_episodes: Episodes per search and round.
    num_rounds: Largest number of rounds; with 1, the grid is measured, and
      nothing is chosen.
    num_final_episodes: Fresh episodes of the best search, the run's own and the
      policy alone.
    gin_bindings: Gin bindings that override the configuration of the run.

  Raises:
    ValueError: If the directory contains no run or no such checkpoint, the run
      has no critic or no search of this kind, a choice has no effect, or
      another process searches there.
  """
  path = os.path.join(root_dir, f'searches_{checkpoint}.csv')
  with run_directory.hold(root_dir, 'search.lock'):  # Or rows would be lost.
    agent, domain, train_step = restored_run.restore_at(
        root_dir, checkpoint, gin_bindings
    )
    if agent.generative_policy.is_served:
      # Another client that changes the weights meanwhile is an error.
      policy = agent.generative_policy
      policy.version = policy.current_version()
    own, num_candidates, climb = own_search(agent, root_dir)
    settings = search_settings.make_grid(axes, own, num_candidates, climb)
    alone = own._replace(
        num_samples=1, num_candidates=1, num_gradient_steps=0, step_size=0.0
    )
    if num_rounds > 1:
      settings = list(dict.fromkeys([*settings, own, alone]))
    measurements = Measurements(
        path,
        agent,
        domain,
        run_directory.read_seed(root_dir),
        gin_bindings='; '.join(gin_bindings),
        train_step=train_step,
    )
    choice = search_settings.halve(
        settings,
        num_rounds,
        lambda number, some: measurements.play(str(number), num_episodes, some),
    )
    labels = {own: "the run's own", alone: 'the policy alone'}
    table = search_outputs.table(choice.scores, labels)
    if num_rounds == 1:
      return f'{table}\n\n{path}'
    best = search_settings.cheapest_of_best(choice)
    found = search_outputs.Found(
        best,
        own,
        alone,
        measurements.play(
            FINAL,
            num_final_episodes,
            list(dict.fromkeys([best, own, alone])),
        ),
    )
    gin_file = os.path.join(root_dir, f'search_{checkpoint}.gin')
    if found.is_refuted:
      # That of an earlier search would be taken for the result of this one.
      if os.path.exists(gin_file) and not gin_bindings:
        os.remove(gin_file)
      return '\n\n'.join([table, search_outputs.describe(found)])
    text = search_outputs.gin_text(
        found, num_candidates, checkpoint, train_step, gin_bindings
    )
    with synced_file.write(gin_file) as file:
      file.write(text.encode())
  return '\n\n'.join([
      table,
      search_outputs.describe(found),
      search_outputs.usage(root_dir, checkpoint, gin_file, gin_bindings),
  ])


def own_search(
    agent, root_dir: str
) -> Tuple[search_settings.Setting, int, search_settings.Climb]:
  """Returns the search of a run's evaluations, taking the best action found.

  Args:
    agent: The run's agent.
    root_dir: The run's directory, for messages.

  Returns:
    The search; its K, also if it takes no steps; and the gradient steps of the
    run's searches, of which that for training may be the only one with any.

  Raises:
    ValueError: If the agent has no critic, or its evaluation no search of this
      kind.
  """
  if getattr(agent, 'critic', None) is None or not hasattr(agent, 'searches'):
    raise ValueError(
        f'{root_dir} must be a run with a critic of actions, whose searches are'
        f' compared, but its {type(agent).__name__} has none.'
    )
  own = agent.searches.evaluation
  known = (action_optimizer.ActionOptimizer, ranking.Ranking)
  if not isinstance(own.optimizer, known):
    name = own.optimizer and type(own.optimizer).__name__
    raise ValueError(
        '`evaluation/Search.optimizer` must be an ActionOptimizer or a Ranking,'
        f' whose settings are compared, but that of {root_dir} is {name}.'
    )
  climbing = [
      x.optimizer
      for x in (own, agent.searches.training)
      if isinstance(x.optimizer, action_optimizer.ActionOptimizer)
  ]
  # First those that climb: the step size of another one may be unused.
  climbing.sort(key=lambda x: not x.num_gradient_steps)
  climb = search_settings.Climb(
      {x.num_gradient_steps for x in climbing},
      float(climbing[0].step_size) if climbing else None,
  )
  (setting,) = search_settings.make_settings(
      [own.num_samples],
      [float(own.temperature)],
      [own.optimizer.num_candidates],
      [getattr(own.optimizer, 'num_gradient_steps', 0)],
      [climb.step_size or 0.0],
  )
  return setting, own.optimizer.num_candidates, climb


def round_seed(seed: int, name: str) -> int:
  """Returns the seed of a round's episodes; the first has those of the run.

  Args:
    seed: Seed of the run, whose evaluations have these episodes.
    name: '1', '2' and so on, or `FINAL`.
  """
  if name == '1':
    return seed
  index = 0 if name == FINAL else int(name)
  state = np.random.SeedSequence(seed, spawn_key=(_ROUND_PURPOSE, index))
  return int(state.generate_state(1, np.uint32)[0] >> 1)


class Measurements:
  """Plays what the run's file lacks, and adds each result to it."""

  def __init__(
      self,
      path: str,
      agent,
      domain,
      seed: int,
      *,
      gin_bindings: str = '',
      train_step: int = 0,
  ):
    """Reads the file.

    Args:
      path: The CSV file; it may be missing.
      agent: `PARLAgent` with a critic.
      domain: `Domain`.
      seed: Seed of the run.
      gin_bindings: Text that distinguishes this task from others.
      train_step: Training step of the networks.
    """
    self._path = path
    self._agent = agent
    self._domain = domain
    self._seed = seed
    self._fixed = {
        'limit': domain.max_episode_steps,
        'gin_bindings': gin_bindings,
        'train_step': train_step,
    }
    self._rows: List[Dict[str, Any]] = []
    # The weights of a served policy may have changed since.
    self._reuses_rows = not agent.generative_policy.is_served
    if os.path.exists(path):
      with open(path, encoding='utf-8', newline='') as file:
        self._rows += csv.DictReader(file)
    self._policies: Dict[search_settings.Setting, Any] = {}

  def play(
      self,
      name: str,
      num_episodes: int,
      settings: Sequence[search_settings.Setting],
  ) -> Dict[search_settings.Setting, search_settings.Scores]:
    """Returns the results of searches in the episodes of a round.

    Args:
      name: See `round_seed`.
      num_episodes: Episodes per search.
      settings: The searches.
    """
    found = {x: self._find(x, name, num_episodes) for x in settings}
    missing = [x for x, row in found.items() if row is None]
    title = f'{name} round' if name == FINAL else f'round {name}'
    logging.info(
        '%s: %d searches of %d episodes each, %d known already.',
        title.capitalize(),
        len(found),
        num_episodes,
        len(found) - len(missing),
    )
    if missing:
      evaluator = evaluation.Evaluator(
          self._domain,
          num_episodes=num_episodes,
          seed=round_seed(self._seed, name),
      )
      with contextlib.closing(evaluator), progress.Progress(
          title, len(missing), unit='evaluation'
      ) as bar:
        for i, setting in enumerate(missing, start=1):
          row = {
              **setting._asdict(),
              **self._fixed,
              'round': name,
              **self._measure(evaluator, setting),
          }
          found[setting] = row
          self._rows.append(row)
          synced_file.write_csv(self._path, COLUMNS, self._rows)
          logging.info(
              '%s: success %.3f, return %.1f',
              setting.describe(),
              row['success_rate'],
              row['mean_return'],
          )
          bar.update(i, success_rate=row['success_rate'])
    return {
        setting: search_settings.Scores(
            row['outcomes'], float(row['mean_return'])
        )
        for setting, row in found.items()
        if row is not None
    }

  def _find(self, setting, name, num_episodes):
    """Returns the row of a measurement, or None."""
    if not self._reuses_rows:
      return None
    wanted = {
        **setting._asdict(),
        **self._fixed,
        'round': name,
        'num_episodes': num_episodes,
    }
    for row in self._rows:
      # Files of earlier versions lack the outcomes.
      if row.get('outcomes') and all(
          str(row.get(key)) == str(x) for key, x in wanted.items()
      ):
        return row
    return None

  def _measure(self, evaluator, setting) -> Dict[str, Any]:
    """Returns the columns that the search and the round do not determine."""
    agent = self._agent
    result = evaluator.run_policy(self._policy(setting))
    starts = [
        frame_stack.read_episode(x.observation, np.arange(1), agent.num_frames)
        for x in result.episodes
    ]
    observation = tf.nest.map_structure(
        lambda *rows: tf.constant(np.concatenate(rows)), *starts
    )
    ranked = setting._replace(
        num_candidates=1, num_gradient_steps=0, step_size=0.0
    )
    seed = tf.constant(evaluation.decision_seed(0, 0))
    value_fn = agent.critic.bind(observation)
    with_ascent, without = (
        value_fn(self._policy(x).act(observation, seed)[:, tf.newaxis])
        for x in (setting, ranked)
    )
    return {
        'num_episodes': len(result.episodes),
        'success_rate': result.success_rate,
        'outcomes': result.outcomes,
        'steps_to_success': result.steps_to_success,
        'mean_return': result.mean_return,
        'start_value': float(tf.reduce_mean(with_ascent)),
        'ascent_gain': float(tf.reduce_mean(with_ascent - without)),
    }

  def _policy(self, setting):
    """Returns the policy that acts with a search; it is compiled once."""
    if setting not in self._policies:
      agent = self._agent
      # What is not given is that of the run's evaluations.
      with gin.config_scope('evaluation'):
        optimizer = action_optimizer.ActionOptimizer(
            num_candidates=setting.num_candidates,
            num_gradient_steps=setting.num_gradient_steps,
            step_size=setting.step_size or 1.0,
        )
        searched = action_source.Search(
            num_samples=setting.num_samples,
            optimizer=optimizer,
            selection='argmax',
            temperature=setting.temperature,
            local_optimization=True,
        )
      self._policies[setting] = parl_policy.PARLPolicy(
          agent.time_step_spec,
          agent.action_spec,
          acting_search.ActingSearch(
              searched,
              agent.generative_policy,
              agent.critic,
              agent.time_step_spec.observation,
          ),
          chunk_length=agent.chunk_length,
      )
    return self._policies[setting]
