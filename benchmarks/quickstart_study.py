"""Runs quickstart.gin over seeds and variants and scores exported policies.

  python benchmarks/quickstart_study.py --root_dir runs/study --seeds 0,1,2

Each run is a separate process that uses one core. Rerun the same command to
resume after a kill. After a run, `parl-evaluate` scores the SavedModels of
every phase, and `parl-controls` measures the run's controls. The results, one
row per run, are printed and written to `<root_dir>/study.csv`.
"""

import concurrent.futures
import csv
import json
import os
import subprocess
import sys
from typing import Dict, List, Sequence

from absl import app
from absl import flags
import numpy as np

from parl_tf.reports import controls

_ROOT_DIR = flags.DEFINE_string(
    'root_dir', None, 'Directory of all runs.', required=True
)
_SEEDS = flags.DEFINE_list('seeds', ['0', '1', '2'], 'Seeds of each variant.')
_VARIANTS = flags.DEFINE_list(
    'variants', ['cal_ql_diffusion'], 'Variants, or `all`.'
)
_NUM_EPISODES = flags.DEFINE_integer(
    'num_episodes', 256, 'Evaluation episodes per policy.'
)
_EVALUATION_SEED = flags.DEFINE_integer(
    'evaluation_seed', 12_345, 'Seed of initial states and random draws.'
)
_NUM_PROCESSES = flags.DEFINE_integer('num_processes', 2, 'Parallel runs.')

_GAUSSIAN = 'build_agent.policy_ctor = @GaussianPolicy'
_IQL = 'build_agent.critic_ctor = @IQLCritic'
VARIANTS = {
    'cal_ql_diffusion': (),
    'cal_ql_gaussian': (_GAUSSIAN,),
    'iql_diffusion': (_IQL,),
    'iql_gaussian': (_IQL, _GAUSSIAN),
}
"""Gin bindings of each variant, in addition to quickstart.gin."""

# Column, and SavedModel in the run's directory.
_POLICIES = (
    ('cloning', 'policies/behavior_cloning/base_policy'),
    ('offline', 'policies/offline/greedy_policy'),
    ('offline_sampled', 'policies/offline/policy'),
    ('online', 'policies/greedy_policy'),
    ('online_sampled', 'policies/policy'),
    ('online_base', 'policies/base_policy'),
)


def run_one(variant: str, seed: str) -> Dict[str, float]:
  """Trains and scores one run; returns its row."""
  root_dir = os.path.join(_ROOT_DIR.value, f'{variant}_{seed}')
  os.makedirs(root_dir, exist_ok=True)
  command = [
      'parl_tf.binaries.train',
      f'--root_dir={root_dir}',
      '--gin_file=quickstart.gin',
      f'--seed={seed}',
      '--gin_bindings=run_experiment.export_phases = True',
  ]
  command += [f'--gin_bindings={binding}' for binding in VARIANTS[variant]]
  if not os.path.exists(os.path.join(root_dir, 'summary.json')):
    _run_module(command, os.path.join(root_dir, 'log.txt'))
  with open(os.path.join(root_dir, 'summary.json'), encoding='utf-8') as file:
    summary = json.load(file)
  row = {
      'variant': variant,
      'seed': int(seed),
      'controller': summary['controller_success_rate'],
      'data': summary['data_success_rate'],
      'minutes': summary['wall_seconds'] / 60.0,
  }
  for column, path in _POLICIES:
    row[column] = _score(os.path.join(root_dir, path))
  return row | _control_scores(root_dir)


def _score(policy: str) -> float:
  """Returns the success rate of a SavedModel; caches it next to the model."""
  path = f'{policy}_{_NUM_EPISODES.value}_{_EVALUATION_SEED.value}.json'
  model = os.path.join(policy, 'saved_model.pb')
  if not os.path.exists(path) or (
      os.path.getmtime(path) < os.path.getmtime(model)
  ):
    _run_module(
        [
            'parl_tf.binaries.evaluate',
            f'--policy={policy}',
            '--gin_file=quickstart.gin',
            f'--num_episodes={_NUM_EPISODES.value}',
            f'--seed={_EVALUATION_SEED.value}',
            '--json',
        ],
        path,
    )
  with open(path, encoding='utf-8') as file:
    return float(np.mean(json.loads(file.read().splitlines()[-1])['successes']))


def _control_scores(root_dir: str) -> Dict[str, float]:
  """Measures the controls of a run; returns their success rates."""
  _run_module(
      ['parl_tf.binaries.controls', f'--runs={root_dir}'],
      os.path.join(root_dir, 'controls.txt'),
  )
  measured = controls.read(root_dir)
  return {
      **{
          f'clone_{temperature}': measured.clone[temperature]['success_rate']
          for temperature in controls.TEMPERATURES
      },
      'self_distillation': measured.self_distillation['success_rate'],
  }


def _run_module(command: Sequence[str], output: str) -> None:
  """Runs a module of the package on one core; writes its output to a file."""
  environment = dict(
      os.environ,
      CUDA_VISIBLE_DEVICES='',
      TF_CPP_MIN_LOG_LEVEL='3',
      TF_NUM_INTRAOP_THREADS='1',
      TF_NUM_INTEROP_THREADS='1',
  )
  with open(output + '.partial', 'w', encoding='utf-8') as file:
    subprocess.run(
        [sys.executable, '-m', *command],
        stdout=file,
        stderr=None if output.endswith('.json') else subprocess.STDOUT,
        env=environment,
        check=True,
    )
  os.replace(output + '.partial', output)


def describe(rows: List[Dict[str, float]]) -> str:
  """Returns a Markdown table of all runs and the mean of each variant."""
  columns = [x for x in rows[0] if x not in ('variant', 'seed', 'minutes')]
  columns.append('minutes')
  lines = [
      '| variant | seed | ' + ' | '.join(columns) + ' |',
      '|---' * (len(columns) + 2) + '|',
  ]
  for variant in dict.fromkeys(row['variant'] for row in rows):
    own = [row for row in rows if row['variant'] == variant]
    for row in own:
      cells = [f'{row[column]:.3f}' for column in columns[:-1]]
      cells.append(f'{row["minutes"]:.1f}')
      lines.append(f'| {variant} | {row["seed"]} | ' + ' | '.join(cells) + ' |')
    means = [f'{np.mean([row[c] for row in own]):.3f}' for c in columns]
    lines.append(f'| {variant} | mean | ' + ' | '.join(means) + ' |')
  return '\n'.join(lines)


def main(argv: Sequence[str]) -> None:
  """Runs everything that is missing, then prints the table."""
  del argv
  names = _VARIANTS.value
  if names == ['all']:
    names = list(VARIANTS)
  for name in names:
    if name not in VARIANTS:
      raise app.UsageError(f'--variants: {name!r} is none of {list(VARIANTS)}.')
  with concurrent.futures.ThreadPoolExecutor(_NUM_PROCESSES.value) as pool:
    futures = [
        pool.submit(run_one, name, seed)
        for name in names
        for seed in _SEEDS.value
    ]
    rows = [future.result() for future in futures]
  path = os.path.join(_ROOT_DIR.value, 'study.csv')
  with open(path, 'w', encoding='utf-8', newline='') as file:
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
  print(describe(rows))


if __name__ == '__main__':
  app.run(main)
