"""Checks this machine: packages, processor, GPU, MuJoCo, Ray, disk and ports.

  parl-doctor
  parl-doctor --root_dir /data/runs --json
  parl-doctor --policy ws://127.0.0.1:8000 --gin_file reach_served.gin

With `--policy`, it checks a policy's server on the task of the gin files
instead: its samples, its seeds, and, if it saves versions of its weights,
whether it trains and restores them. With `--dataset`, it also compares samples
with recorded actions.

Each line is OK, a NOTE about something optional, or a PROBLEM with its fix.
The exit status is 1 if there is a problem.
"""

import json
from typing import Sequence

from absl import app
from absl import flags

from parl_tf.binaries import console
from parl_tf.binaries import run_flags


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns the exit status."""
  if len(argv) > 1:
    raise app.UsageError(f'Unknown arguments: {argv[1:]}.')
  options = flags.FLAGS
  if bool(options.policy) != bool(options.gin_file):
    raise app.UsageError('--policy and --gin_file must be given together.')
  if options.dataset and not options.policy:
    raise app.UsageError('--dataset needs --policy.')
  if options.policy:
    run_flags.check_url('policy', options.policy)
  # Imported here: `--help` and usage errors do not wait.
  from parl_tf.binaries import doctor_checks

  if options.policy:
    from parl_tf.binaries import policy_checks

    findings = policy_checks.examine(
        options.policy, options.gin_file, options.gin_bindings, options.dataset
    )
  else:
    findings = doctor_checks.examine(options.root_dir)
  if options.json:
    print(json.dumps([x._asdict() for x in findings], indent=2))
  else:
    print('\n'.join(map(doctor_checks.describe, findings)))
  return int(any(x.status == doctor_checks.PROBLEM for x in findings))


def run() -> None:
  """Console entry point."""
  console.run('parl-doctor', main, _define_flags)


def _define_flags():
  flags.DEFINE_string(
      'root_dir', '.', 'Directory for runs, whose disk is measured.'
  )
  flags.DEFINE_string(
      'policy', None, 'ws:// URL of a server to check instead of the machine.'
  )
  flags.DEFINE_multi_string(
      'gin_file', None, 'With --policy: a gin file of its task.'
  )
  flags.DEFINE_multi_string(
      'gin_bindings', [], 'A gin binding, applied after the files.'
  )
  flags.DEFINE_string(
      'dataset', None, 'With --policy: data whose actions it should know.'
  )
  flags.DEFINE_bool('json', False, 'Prints a JSON list instead of lines.')


if __name__ == '__main__':
  run()
