"""Scores runs of an OGBench scene with goals by task and time limit.

  python -m benchmarks.goal_tasks --runs runs/goal_cube --decisions 25,50 \
    --output goal_cube.csv

For each run below a folder, plays OGBench's five tasks one by one, within each
number of decisions: with the critic's search, and the policy alone at
temperatures 1, 0.5 and 0. Before the online phase the policy alone is the
clone. Prints the success of all tasks together, and writes one row per task to
a CSV file.
"""

import contextlib
from typing import Any, Dict, List, Sequence

from absl import app
from absl import flags
import gin
import numpy as np

from benchmarks import run_scores
from parl_tf.agents import parl_agent
from parl_tf.agents import parl_policy
from parl_tf.binaries import controls_run
from parl_tf.binaries import restored_run
from parl_tf.reports import run_files
from parl_tf.training import evaluation
from parl_tf.training import run_directory

COLUMNS = (
    'run', 'seed', 'decisions', 'policy', 'task', 'num_episodes', 'success'
)
"""Columns of the CSV file; `success` is a share."""

_TASKS = (1, 2, 3, 4, 5)
_TEMPERATURES = (1.0, 0.5, 0.0)


def policies(
    agent: parl_agent.PARLAgent, *, has_critic: bool
) -> Dict[str, parl_policy.PARLPolicy]:
  """Returns the policies to score, by name.

  Args:
    agent: The agent of a run.
    has_critic: Whether its critic has been trained.
  """
  found = {'search': agent.evaluation_policy} if has_critic else {}
  for temperature in _TEMPERATURES:
    name = f'alone, T = {temperature:g}'
    found[name] = controls_run.alone(agent, temperature)
  return found


def score(
    run_dir: str, num_episodes: int, limits: Sequence[int]
) -> List[Dict[str, Any]]:
  """Returns the rows of a run.

  Args:
    run_dir: Directory of a run of a `GoalTask` that has ended.
    num_episodes: Episodes of each task.
    limits: Numbers of decisions after which an episode ends.
  """
  gin.clear_config()
  agent, domain = restored_run.restore(run_dir)
  make_domain = type(domain)
  seed = run_directory.read_seed(run_dir)
  rows: List[Dict[str, Any]] = []
  phases = run_files.read_summary_phases(run_dir, seed)
  played = policies(agent, has_critic=set(phases) != {'behavior_cloning'})
  for decisions in limits:
    for task in _TASKS:
      evaluator = evaluation.Evaluator(
          make_domain(task=task, max_episode_steps=decisions),
          num_episodes=num_episodes,
          seed=seed,
      )
      with contextlib.closing(evaluator):
        for name, policy in played.items():
          result = evaluator.run_policy(policy)
          rows.append(
              dict(
                  run=run_dir,
                  seed=seed,
                  decisions=decisions,
                  policy=name,
                  task=task,
                  num_episodes=num_episodes,
                  success=float(np.mean(result.successes)),
              )
          )
    for name in played:
      shares = [
          row['success']
          for row in rows
          if row['decisions'] == decisions and row['policy'] == name
      ]
      print(
          f'{run_dir}  {decisions} decisions  {name:14}  mean'
          f' {np.mean(shares):.3f}  tasks',
          ' '.join(f'{share:.2f}' for share in shares),
          flush=True,
      )
  return rows


def main(argv):
  """Scores all runs."""
  num_episodes = flags.FLAGS.num_episodes
  limits = [int(limit) for limit in flags.FLAGS.decisions]
  run_scores.write(
      [*flags.FLAGS.runs, *argv[1:]],
      lambda run_dir: score(run_dir, num_episodes, limits),
      COLUMNS,
      flags.FLAGS.output,
  )


if __name__ == '__main__':
  run_scores.define_flags()
  flags.DEFINE_integer(
      'num_episodes', 40, 'Episodes of each task.', lower_bound=1
  )
  flags.DEFINE_list('decisions', ['25', '50'], 'Limits of an episode.')
  app.run(main)
