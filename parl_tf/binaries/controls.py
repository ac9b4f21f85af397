"""Measures the controls of finished runs: what needs no reinforcement learning.

  parl-controls --runs runs/quickstart

For each run directory, or each run below a folder:

* the success and return of its data;
* its clone, drawn at temperatures 1, 0.5 and 0 on the run's own evaluation
  episodes; of a served policy, the version with which the run began;
* self-distillation without a critic (N = 1, T = 0, draws at the run's training
  temperature) from the end of cloning, for the run's online budget; none if
  the run has no online phase.

The run needs its checkpoint of behavior cloning (phases/behavior_cloning), or
that of the run where it began. A served policy needs its server, which must
save versions; afterwards, also after Ctrl-C or SIGTERM, it has the run's last
version again. The results are printed and in controls.json of the run's
directory, which parl-report reads. Self-distillation runs in the directory
controls/self_distillation. Rerun the same command to resume. If the path of the
run's dataset is relative, run it where the run was started.
"""

from typing import Sequence

from absl import flags

from parl_tf.binaries import console


def main(argv: Sequence[str]) -> None:
  """Runs the command."""
  # Imported here: `--help` and usage errors do not wait for TensorFlow.
  from parl_tf.binaries import controls_run
  from parl_tf.binaries import third_party_messages

  third_party_messages.silence_first_compilation()
  # With `--runs A B`, absl passes B as a positional argument.
  folders = [*flags.FLAGS.runs, *argv[1:]]
  paths = controls_run.measure_all(folders)
  print(controls_run.describe(folders))
  for path in paths:
    print(path)


def run() -> None:
  """Console entry point."""
  console.run('parl-controls', main, _define_flags, is_resumable=True)


def _define_flags():
  flags.DEFINE_multi_string(
      'runs',
      None,
      'A run directory, or a folder that contains runs at any depth.',
      required=True,
  )


if __name__ == '__main__':
  run()
