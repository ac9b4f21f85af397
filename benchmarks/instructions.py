"""Scores the policies of runs by instruction, before and after fine-tuning.

  python -m benchmarks.instructions --runs runs/vla --output instructions.csv

For each run below a folder, plays the run's evaluation episodes with its clone,
with the critic's search after offline RL, and with the last checkpoint, with
search and alone. Prints the success rate of each instruction, and writes all
rows to a CSV file. If the policy has adapters (LoRA), it also prints their size
and whether the weights of their base are, byte by byte, those of the clone.
"""

from typing import Any, Dict, List, Sequence

from absl import app
from absl import flags
import gin
import numpy as np

from benchmarks import run_scores
from parl_tf.binaries import controls_run
from parl_tf.binaries import restored_run
from parl_tf.domains import domain as domain_lib
from parl_tf.domains import drawn_maze
from parl_tf.reports import run_files
from parl_tf.training import evaluation
from parl_tf.training import evaluation_result
from parl_tf.training import experiment
from parl_tf.training import phase_checkpoint
from parl_tf.training import run_dataset
from parl_tf.training import run_directory

COLUMNS = (
    'run', 'seed', 'phase', 'search', 'instruction', 'num_episodes', 'success'
)
"""Columns of the CSV file; `success` is a share."""

_ALL = 'all'


def by_instruction(
    result: evaluation_result.EvaluationResult,
) -> Dict[str, List[bool]]:
  """Returns the successes of the episodes with each instruction, and of all.

  Args:
    result: Episodes whose observations have an `instruction` `[T + 1, words]`
      of tokens of `drawn_maze.VOCABULARY`.

  Raises:
    ValueError: If the observations have no instruction.
  """
  found: Dict[str, List[bool]] = {_ALL: []}
  for episode, success in zip(result.episodes, result.successes):
    if 'instruction' not in episode.observation:
      raise ValueError(
          'Observations must have an `instruction`, got '
          f'{sorted(episode.observation)}.'
      )
    tokens = episode.observation['instruction'][0].astype(int)
    words = ' '.join(drawn_maze.VOCABULARY[token] for token in tokens)
    found.setdefault(words, []).append(bool(success))
    found[_ALL].append(bool(success))
  return dict(sorted(found.items()))


def score(run_dir: str) -> List[Dict[str, Any]]:
  """Returns the rows of a run; prints what is known of its adapters.

  Args:
    run_dir: Directory of a run that has ended.

  Raises:
    ValueError: If the run has no clone, checkpoint or evaluation.
  """
  gin.clear_config()
  agent = restored_run.restore_agent(run_dir)
  seed = run_directory.read_seed(run_dir)
  domain = domain_lib.select_domain()
  numbers = run_files.read_metrics(run_dir).column('num_evaluation_episodes')
  evaluator = evaluation.Evaluator(
      domain, num_episodes=int(numbers[np.isfinite(numbers)][-1]), seed=seed
  )
  rows: List[Dict[str, Any]] = []

  def play(phase, search, policy):
    found = by_instruction(evaluator.run_policy(policy))
    for words, successes in found.items():
      rows.append(
          dict(
              run=run_dir,
              seed=seed,
              phase=phase,
              search=search,
              instruction=words,
              num_episodes=len(successes),
              success=np.mean(successes),
          )
      )

  play('online', True, agent.evaluation_policy)
  play('online', False, agent.base_policy)
  adapters = getattr(agent.generative_policy, 'adapters', None)
  fine_tuned = _base_bytes(agent) if adapters is not None else {}
  episodes = run_dataset.load(
      experiment.dataset_path(run_dir), domain, run_dir
  )
  normalization = run_dataset.statistics(domain, episodes)
  folder = controls_run.find_clone(run_dir)
  for phase in ('offline', 'behavior_cloning'):
    if phase not in phase_checkpoint.saved_phases(folder):
      continue
    agent = experiment.make_agent(domain, normalization, seed)
    checkpoint = phase_checkpoint.PhaseCheckpoint(folder, phase)
    is_offline = phase == 'offline'
    checkpoint.load(agent, normalization, with_critic=is_offline)
    if is_offline:
      play(phase, True, agent.evaluation_policy)
  play('behavior_cloning', False, agent.base_policy)
  if adapters is not None:
    clone = _base_bytes(agent)
    changed = [name for name in clone if clone[name] != fine_tuned[name]]
    print(
        f'{run_dir}: adapters {adapters.num_bytes / 2**20:.2f} MiB; of the '
        f'{len(clone)} weights of their base '
        f'({sum(map(len, clone.values())) / 2**20:.2f} MiB), {len(changed)} '
        'differ from the clone.'
    )
  return rows


def _base_bytes(agent) -> Dict[str, bytes]:
  """Returns the bytes of the weights of the policy below its adapters."""
  variables = agent.generative_policy.base.variables
  return {f'{i}/{v.name}': v.numpy().tobytes() for i, v in enumerate(variables)}


def _print(rows: Sequence[Dict[str, Any]]) -> None:
  for row in rows:
    search = 'with search' if row['search'] else 'alone'
    print(
        f"{row['run']}  {row['phase']:16} {search:11} {row['instruction']:24} "
        f"{row['success']:.3f} of {row['num_episodes']}"
    )


def main(argv):
  """Scores all runs."""
  def score_and_print(run_dir):
    found = score(run_dir)
    _print(found)
    return found

  folders = [*flags.FLAGS.runs, *argv[1:]]
  run_scores.write(folders, score_and_print, COLUMNS, flags.FLAGS.output)


if __name__ == '__main__':
  run_scores.define_flags()
  app.run(main)
