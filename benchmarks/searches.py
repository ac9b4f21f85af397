"""Evaluates a run's policy and critic under several action searches.

  python -m benchmarks.searches --run runs/cube --phase offline \
    --num_gradient_steps 0,5,10 --step_sizes 1e-2,3e-2

Takes the networks from the checkpoint of a phase (`phases/<phase>`) and plays
the run's evaluation episodes with each combination of the flags, without any
training. A row of the printed table and of `searches_<phase>.csv` in the run's
directory has one combination. It ranks `num_samples` samples at `temperature`,
climbs from the best `num_candidates` (at most `num_samples`), and takes the
best. `ascent_gain` is what ascent adds to the critic's value of the best sample
at the first decision. With `--gin_bindings`, the task can differ from that of
the run, for instance in its time limit.

Rows that the file has already are not measured again.
"""

import csv
import io
import itertools
import os
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence

from absl import app
from absl import flags
from absl import logging
import numpy as np
import tensorflow as tf

from parl_tf import frame_stack
from parl_tf import synced_file
from parl_tf.agents import parl_policy
from parl_tf.binaries import configs
from parl_tf.domains import domain as domain_lib
from parl_tf.search import acting_search
from parl_tf.search import action_optimizer
from parl_tf.search import action_source
from parl_tf.training import evaluation
from parl_tf.training import experiment
from parl_tf.training import phase_checkpoint
from parl_tf.training import run_dataset
from parl_tf.training import run_directory


class Setting(NamedTuple):
  """One search.

  Attributes:
    num_samples: N.
    temperature: Temperature of the samples.
    num_candidates: K.
    num_gradient_steps: T.
    step_size: In action units per unit of the critic's gradient; 0 if T is 0.
  """

  num_samples: int
  temperature: float
  num_candidates: int
  num_gradient_steps: int
  step_size: float


COLUMNS = (
    *Setting._fields,
    *('limit', 'num_episodes', 'success_rate', 'steps_to_success'),
    *('mean_return', 'start_value', 'ascent_gain', 'gin_bindings'),
)
"""Columns of the file; `limit` is in environment steps."""


def make_settings(
    num_samples: Sequence[int],
    temperatures: Sequence[float],
    num_candidates: Sequence[int],
    num_gradient_steps: Sequence[int],
    step_sizes: Sequence[float],
) -> List[Setting]:
  """Returns all different combinations, in the order of the arguments."""
  found = {}
  for n, temperature, k, steps, size in itertools.product(
      num_samples, temperatures, num_candidates, num_gradient_steps, step_sizes
  ):
    # Ranking takes no steps, so it needs neither a size nor more candidates.
    k, size = (min(k, n), size) if steps else (1, 0.0)
    found[Setting(n, temperature, k, steps, size)] = None
  return list(found)


def make_policy(agent, setting: Setting) -> parl_policy.PARLPolicy:
  """Returns the policy that acts with a search and the agent's networks."""
  # All arguments, because gin binds those of the run's search.
  optimizer = action_optimizer.ActionOptimizer(
      num_candidates=setting.num_candidates,
      num_gradient_steps=setting.num_gradient_steps,
      step_size=setting.step_size or 1.0,
      acceptance='best_iterate',
      dataset_action=None,
  )
  return parl_policy.PARLPolicy(
      agent.time_step_spec,
      agent.action_spec,
      acting_search.ActingSearch(
          action_source.Search(
              num_samples=setting.num_samples,
              optimizer=optimizer,
              selection='argmax',
              temperature=setting.temperature,
          ),
          agent.generative_policy,
          agent.critic,
          agent.time_step_spec.observation,
      ),
      chunk_length=agent.chunk_length,
  )


def measure(agent, evaluator, setting: Setting) -> Dict[str, float]:
  """Plays the evaluation's episodes with a search.

  Args:
    agent: `PARLAgent` with a critic.
    evaluator: `Evaluator`.
    setting: The search.

  Returns:
    The columns that the search does not determine.
  """
  result = evaluator.run_policy(make_policy(agent, setting))
  starts = [
      frame_stack.read_episode(x.observation, np.arange(1), agent.num_frames)
      for x in result.episodes
  ]
  observation = tf.nest.map_structure(
      lambda *rows: tf.constant(np.concatenate(rows)), *starts
  )
  ranking = setting._replace(
      num_candidates=1, num_gradient_steps=0, step_size=0.0
  )
  seed = evaluation.decision_seed(0, 0)
  value_fn = agent.critic.bind(observation)
  with_ascent, without = (
      value_fn(make_policy(agent, x).act(observation, seed)[:, tf.newaxis])
      for x in (setting, ranking)
  )
  return {
      'num_episodes': len(result.episodes),
      'success_rate': result.success_rate,
      'steps_to_success': result.steps_to_success,
      'mean_return': result.mean_return,
      'start_value': float(tf.reduce_mean(with_ascent)),
      'ascent_gain': float(tf.reduce_mean(with_ascent - without)),
  }


def compare(
    run_dir: str,
    phase: str,
    settings: Sequence[Setting],
    num_episodes: int,
    bindings: Sequence[str] = (),
) -> str:
  """Measures the settings that the run's file lacks; returns its path.

  Args:
    run_dir: Directory of the run. Afterwards, gin holds its configuration.
    phase: 'offline'.
    settings: The searches.
    num_episodes: Episodes per search.
    bindings: Gin bindings, applied after the run's own.

  Raises:
    ValueError: If the run has no checkpoint of the phase, or a file is faulty.
  """
  saved = phase_checkpoint.saved_phases(run_dir)
  if phase not in saved:
    raise ValueError(
        f'{phase_checkpoint.path(run_dir, phase)} must exist; {run_dir} has '
        f'checkpoints of {saved or "no phase"}.'
    )
  configs.add_search_path()
  configs.parse(
      [os.path.abspath(run_directory.config_path(run_dir))], list(bindings)
  )
  domain = domain_lib.select_domain()
  path = os.path.join(run_dir, f'searches_{phase}.csv')
  rows = _read(path)
  fixed = {
      'limit': domain.max_episode_steps,
      'num_episodes': num_episodes,
      'gin_bindings': '; '.join(bindings),
  }
  known = {tuple(row[name] for name in (*Setting._fields, *fixed))
           for row in rows}
  settings = [
      x for x in settings if tuple(map(str, (*x, *fixed.values()))) not in known
  ]
  if not settings:
    return path
  seed = run_directory.read_seed(run_dir)
  agent = _load_agent(run_dir, phase, domain, seed)
  evaluator = evaluation.Evaluator(
      domain, num_episodes=num_episodes, seed=seed
  )
  for setting in settings:
    measured = measure(agent, evaluator, setting)
    rows.append({**setting._asdict(), **fixed, **measured})
    logging.info('%s', rows[-1])
    _write(path, rows)
  return path


def _load_agent(run_dir, phase, domain, seed):
  """Returns an agent with the networks at the end of the phase."""
  checkpoint = phase_checkpoint.PhaseCheckpoint(run_dir, phase)
  path = checkpoint.dataset_path or experiment.dataset_path(run_dir)
  episodes = run_dataset.load(path, domain, run_dir)
  normalization = run_dataset.statistics(domain, episodes)
  agent = experiment.make_agent(domain, normalization, seed)
  checkpoint.load(agent, normalization, with_critic=True)
  return agent


def _read(path: str) -> List[Dict[str, Any]]:
  if not os.path.exists(path):
    return []
  with open(path, encoding='utf-8', newline='') as file:
    return list(csv.DictReader(file))


def _write(path: str, rows: Sequence[Mapping[str, Any]]) -> None:
  text = io.StringIO()
  writer = csv.DictWriter(text, COLUMNS, lineterminator='\n')
  writer.writeheader()
  writer.writerows(rows)
  with synced_file.write(path) as file:
    file.write(text.getvalue().encode())


def main(argv: Sequence[str]) -> None:
  """Runs the command."""
  if len(argv) > 1:
    raise app.UsageError(f'Unknown arguments: {argv[1:]}')
  options = flags.FLAGS
  settings = make_settings(
      [int(x) for x in options.num_samples],
      [float(x) for x in options.temperatures],
      [int(x) for x in options.num_candidates],
      [int(x) for x in options.num_gradient_steps],
      [float(x) for x in options.step_sizes],
  )
  print(
      compare(
          options.run,
          options.phase,
          settings,
          options.num_episodes,
          options.gin_bindings,
      )
  )


def run() -> None:
  """Defines the flags and runs the command."""
  flags.DEFINE_string('run', None, 'Directory of the run.', required=True)
  flags.DEFINE_enum(
      'phase',
      'offline',
      phase_checkpoint.PHASES[1:],  # Cloning leaves no critic.
      'Phase of the networks.',
  )
  flags.DEFINE_list('num_samples', ['8'], 'N.')
  flags.DEFINE_list('temperatures', ['0.5'], 'Temperatures of the samples.')
  flags.DEFINE_list('num_candidates', ['8'], 'K.')
  flags.DEFINE_list('num_gradient_steps', ['0', '5', '10'], 'T.')
  flags.DEFINE_list('step_sizes', ['1e-2', '3e-2'], 'Sizes of ascent steps.')
  flags.DEFINE_integer('num_episodes', 64, 'Episodes per search.', 1)
  flags.DEFINE_multi_string(
      'gin_bindings', [], "Gin bindings, applied after the run's own."
  )
  app.run(main)


if __name__ == '__main__':
  run()
