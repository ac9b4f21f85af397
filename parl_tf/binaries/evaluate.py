r"""Evaluates a policy in the environment that gin files describe.

  parl-evaluate --policy runs/quickstart/policies/greedy_policy \
    --gin_file quickstart.gin

`--follow HOST:PORT --root_dir DIR` instead evaluates a learner's weights as the
replay service publishes them, until training ends.

A served policy is given by its URL. With `--root_dir`, the critic of that run
searches the policy's samples, and the configuration of the run applies:

  parl-evaluate --policy ws://127.0.0.1:8000 --gin_file quickstart.gin
  parl-evaluate --policy ws://127.0.0.1:8000 --root_dir runs/quickstart

With `--root_dir` alone, the last checkpoint of a run acts with its search, or
with that of a gin file (see parl-search). A video then also shows what the
policy saw and how the critic values the policy's samples, the actions that the
search found, and the action taken:

  parl-evaluate --root_dir runs/quickstart --video search.mp4

`--checkpoint` takes another checkpoint of the run than its last: that of its
best online evaluation, or that at the end of offline RL. With `--alone`, the
policy of the run acts without the search. `--temperature` scales the noise of
such a policy, or of a served policy alone:

  parl-evaluate --root_dir runs/quickstart --alone --temperature 0

With `--against`, another policy plays the same starts with the same seeds:

  parl-evaluate --policy exported/new --against exported/old \
    --gin_file quickstart.gin --num_episodes 100

With `--episodes`, the episodes are also written to a directory, which is then a
dataset.

To evaluate a SavedModel, this program needs TensorFlow but neither TF-Agents
nor Reverb: it only loads the model and calls its signature `serving_default`.
"""

import gc
import json
import os
from typing import Sequence

from absl import app
from absl import flags

from parl_tf.binaries import configs
from parl_tf.binaries import console
from parl_tf.binaries import outputs
from parl_tf.binaries import run_flags

_VIDEOS = ('.mp4', '.gif')


def main(arguments: Sequence[str]) -> None:
  """Runs the command."""
  options = flags.FLAGS
  _check_usage(options, arguments)
  # TensorFlow's modules and graphs are many objects that stay: looking at them
  # as often as Python does by default takes 5 % of a short evaluation.
  gc.set_threshold(50_000, 20, 20)
  # Imported here: `--help` and usage errors do not wait for TensorFlow.
  from parl_tf.binaries import evaluation_comparison
  from parl_tf.binaries import evaluation_run

  is_other_served = run_flags.is_url(options.against or '')
  if is_other_served:
    # A configuration that is parsed accepts no new configurables.
    import parl_tf.policies.remote  # noqa: F401
    import parl_tf.training.served_acting  # noqa: F401
  configuration = options.gin_file or (), options.gin_bindings
  constants = dict(num_episodes=options.num_episodes, seed=options.seed)
  if options.follow:
    num_evaluations = evaluation_run.follow(
        options.follow, options.root_dir, *configuration, **constants
    )
    print(f'{num_evaluations} evaluations: {options.root_dir}/metrics.csv')
    return
  if options.alone:
    temperature = None
    if options['temperature'].present:
      temperature = options.temperature
    act, domain = evaluation_run.alone_act(
        options.root_dir, *configuration, options.checkpoint, temperature
    )
  elif not options.policy:
    act, domain = evaluation_run.live_act(
        options.root_dir, *configuration, options.checkpoint
    )
  elif not _is_served(options):
    act, domain = evaluation_run.exported_act(options.policy, *configuration)
    configs.warn_of_search(*configuration)
  elif options.root_dir:
    act, domain = evaluation_run.searched_act(
        options.policy, options.root_dir, *configuration, options.checkpoint
    )
  else:
    act, domain = evaluation_run.served_act(
        options.policy, *configuration, options.temperature
    )
  other = other_act = None
  if options.against:  # Its errors come before any episode is played.
    other_act = evaluation_run.other_act(
        options.against, domain, is_other_served, options.temperature
    )
  result = evaluation_run.play(
      act,
      domain,
      **constants,
      video_file=options.video,
      directory=options.episodes,
  )
  if other_act is not None:
    other = evaluation_run.play(other_act, domain, **constants)
    evaluation_comparison.check_starts(domain, result, other)
  # Only served policies have versions.
  version, other_version = (
      getattr(x, 'version', '') for x in (act, other_act)
  )
  if options.json:
    policy = options.policy or options.root_dir
    summary = evaluation_run.summarize(policy, options.seed, result, version)
    if other is not None:
      summary['against'] = {
          **evaluation_run.summarize(
              options.against, options.seed, other, other_version
          ),
          **evaluation_comparison.compare(result, other)._asdict(),
      }
    print(json.dumps(summary))
  else:
    print(evaluation_run.describe(result, version))
    if other is not None:
      text = evaluation_run.describe(other, other_version)
      print(f'{options.against}: {text}')
      print(evaluation_comparison.compare(result, other).describe())


def _check_usage(options, arguments) -> None:
  """Raises `UsageError` if the flags do not select one kind of evaluation."""
  if len(arguments) > 1:
    raise app.UsageError(f'Unknown arguments: {arguments[1:]}.')
  if options.policy and options.follow:
    raise app.UsageError('--policy cannot be combined with --follow.')
  if not (options.policy or options.follow or options.root_dir):
    raise app.UsageError('--policy, --root_dir or --follow must be given.')
  if options.follow and not options.root_dir:
    raise app.UsageError('--follow needs --root_dir.')
  for name in ('against', 'episodes', 'json', 'video'):
    if options.follow and getattr(options, name):
      raise app.UsageError(f'--{name} cannot be combined with --follow.')
  if options.episodes and os.path.exists(options.episodes):
    raise app.UsageError(f'--episodes: {options.episodes} exists.')
  if options.episodes:
    outputs.check_directory(options.episodes, 'episodes')
  if options.video and not options.video.lower().endswith(_VIDEOS):
    raise app.UsageError(
        f'--video must end in {" or ".join(_VIDEOS)}, got {options.video}.'
    )
  if options.video and os.path.exists(options.video):
    raise app.UsageError(f'--video: {options.video} exists.')
  if options.video:
    outputs.check_directory(
        os.path.dirname(options.video) or '.', 'folder of video'
    )
  if options.policy and options.root_dir and not _is_served(options):
    raise app.UsageError(
        '--root_dir cannot be combined with a SavedModel, which contains its'
        ' critic and search.'
    )
  if options.alone and (
      options.policy or options.follow or not options.root_dir
  ):
    raise app.UsageError(
        '--alone is for the policy of a run: it needs --root_dir without'
        ' --policy and --follow.'
    )
  if options['temperature'].present and not options.alone and (
      options.root_dir or not _is_served(options)
  ):
    raise app.UsageError(
        '--temperature is for a policy that acts alone: it needs --root_dir and'
        ' --alone, or --policy ws://HOST:PORT without --root_dir.'
    )
  if options.checkpoint != 'last' and (
      options.follow or not options.root_dir
  ):
    raise app.UsageError(
        '--checkpoint is one of a run: it needs --root_dir without --follow.'
    )
  has_configuration = bool(options.root_dir) and not options.follow
  if not has_configuration and not options.gin_file:
    raise app.UsageError('--gin_file must be given.')


def _is_served(options) -> bool:
  return bool(options.policy) and run_flags.is_url(options.policy)


def run() -> None:
  """Console entry point."""
  console.run('parl-evaluate', main, _define_flags)


def _define_flags():
  flags.DEFINE_string(
      'policy', None, 'Directory of the SavedModel, or ws:// URL of a server.'
  )
  flags.DEFINE_string(
      'against',
      None,
      'Another policy to compare with: SavedModel, or ws:// URL of a server.',
  )
  flags.DEFINE_string(
      'follow', None, 'host:port of the replay service of the learner.'
  )
  flags.DEFINE_string(
      'root_dir',
      None,
      'Directory of a run, whose last checkpoint acts, or whose critic searches'
      ' the samples of a served policy; with --follow, directory to write the'
      ' results to.',
  )
  run_flags.define_checkpoint()
  flags.DEFINE_multi_string(
      'gin_file',
      None,
      'A gin file; later files override earlier ones, and with --root_dir the'
      ' configuration of the run.',
  )
  flags.DEFINE_multi_string(
      'gin_bindings', [], 'A gin binding, applied after the files.'
  )
  flags.DEFINE_integer(
      'num_episodes', 32, 'Number of episodes per evaluation.', lower_bound=1
  )
  flags.DEFINE_integer(
      'seed',
      0,
      'Seed of start states and policy samples. That of a run has the episodes'
      ' by which it chose its best policies.',
      lower_bound=0,
  )
  flags.DEFINE_bool(
      'alone', False, 'With --root_dir: the policy acts without the search.'
  )
  flags.DEFINE_float(
      'temperature',
      1.0,
      'Scale of the noise of a served policy, also of --against, or of a policy'
      " with --alone, for which the default is that of the run's evaluations.",
      lower_bound=0.0,
  )
  flags.DEFINE_string(
      'video', None, 'Video file of the first episode (.mp4 or .gif).'
  )
  flags.DEFINE_string(
      'episodes', None, 'New directory to log the episodes to, as a dataset.'
  )
  flags.DEFINE_bool('json', False, 'Prints one JSON object instead of a line.')


if __name__ == '__main__':
  run()
