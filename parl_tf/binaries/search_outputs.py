"""What `parl-search` prints and writes: tables, a gin file and its use."""

import os
import shlex
from typing import Dict, Mapping, NamedTuple, Sequence

from parl_tf import proportion
from parl_tf.binaries import search_settings
from parl_tf.reports import run_files
from parl_tf.training import setbacks

_FRESH = (
    'In fresh episodes, which had no part in the choice (95 % interval of'
    ' success):'
)
_PHASES = '("behavior_cloning", "offline", "online")'
_SCOPES = ('acting', 'evaluation')


class Found(NamedTuple):
  """The search that was found, beside what it competes with.

  Attributes:
    best: The best search.
    own: The run's own search.
    alone: The policy alone.
    scores: Results of these in episodes that had no part in the choice.
  """

  best: search_settings.Setting
  own: search_settings.Setting
  alone: search_settings.Setting
  scores: Mapping[search_settings.Setting, search_settings.Scores]

  def table(self) -> str:
    """Returns a line for each of the searches, with its 95 % interval."""
    labels: Dict[search_settings.Setting, str] = {}
    for name, setting in (
        ('found', self.best),
        ("the run's own", self.own),
        ('the policy alone', self.alone),
    ):
      before = labels.get(setting)
      labels[setting] = f'{before} and {name}' if before else name
    for setting, scores in self.scores.items():
      low, high = proportion.wilson_interval(
          scores.success_rate, scores.num_episodes
      )
      labels[setting] += f' ({low:.3f} to {high:.3f})'
    return table(self.scores, labels)

  def verdict(self) -> str:
    """Returns which differences exceed what chance explains."""
    sentences = []
    for name, setting in (
        ("The run's own search", self.own),
        ('The policy alone', self.alone),
    ):
      if setting == self.best:
        sentences.append(f'{name} is the one found.')
      elif self._is_worse(setting, self.best):
        sentences.append(f'{name} is worse by more than chance explains.')
      elif self._is_worse(self.best, setting):
        sentences.append(
            f'{name} is better by more than chance explains: keep it.'
        )
      elif setting == self.own and self._own_is_ahead:
        sentences.append(
            f'{name} is better by more than a standard error: keep it.'
        )
      else:
        sentences.append(f'{name} is within chance of the one found.')
    if self._is_worse(self.best, self.alone) or (
        self.best == self.alone and self._is_worse(self.own, self.alone)
    ):
      sentences.append(
          'The critic misleads the searches: see docs/troubleshooting.md.'
      )
    return ' '.join(sentences)

  @property
  def is_refuted(self) -> bool:
    """Whether the fresh episodes speak against the search found.

    That is, the policy alone is clearly better, or the run's own search by more
    than a standard error: 32 episodes show large differences only.
    """
    return self._own_is_ahead or self._is_worse(self.best, self.alone)

  @property
  def _own_is_ahead(self) -> bool:
    return self._is_worse(
        self.best, self.own, search_settings.ONE_STANDARD_ERROR
    )

  def _is_worse(self, setting, than, *by_chance) -> bool:
    return setbacks.is_worse(
        self.scores[setting].outcomes, self.scores[than].outcomes, *by_chance
    )


def table(
    scores: Mapping[search_settings.Setting, search_settings.Scores],
    labels: Mapping[search_settings.Setting, str],
) -> str:
  """Returns a line for each search, most episodes first, then the best.

  Args:
    scores: Results by search.
    labels: What some of the searches are.
  """
  names = (
      *('samples', 'temperature', 'K', 'T', 'step', 'episodes', 'success'),
      'return',
  )
  widths = (8, 13, 4, 4, 8, 10, 9, 9)
  lines = [''.join(f'{x:>{w}}' for x, w in zip(names, widths))]
  ranked = sorted(
      search_settings.rank(scores), key=lambda x: -scores[x].num_episodes
  )
  for setting in ranked:
    found = scores[setting]
    has_steps = setting.num_gradient_steps
    cells = (
        setting.num_samples,
        f'{setting.temperature:g}',
        setting.num_candidates if has_steps else '',
        setting.num_gradient_steps,
        f'{setting.step_size:g}' if has_steps else '',
        found.num_episodes,
        f'{found.success_rate:.3f}',
        f'{found.mean_return:.1f}',
    )
    line = ''.join(f'{x:>{w}}' for x, w in zip(cells, widths))
    lines.append(f'{line}  {labels.get(setting, "")}'.rstrip())
  return '\n'.join(lines)


def describe(found: Found) -> str:
  """Returns the results of the final episodes, and what they tell."""
  return '\n'.join([_FRESH, found.table(), found.verdict()])


def gin_text(
    found: Found,
    num_candidates: int,
    checkpoint: str,
    train_step: int,
    gin_bindings: Sequence[str] = (),
) -> str:
  """Returns a gin file that binds the best search for acting and evaluation.

  Args:
    found: The searches.
    num_candidates: K of the run. Without gradient steps it is kept, for
      policies that sample among the candidates.
    checkpoint: Name of the checkpoint with the networks.
    train_step: Its training step.
    gin_bindings: Bindings that the search overrode the run's with.
  """
  best = found.best
  values = {
      'Search.num_samples': best.num_samples,
      'Search.temperature': best.temperature,
      'Search.optimizer': '@ActionOptimizer()',
      'Search.local_optimization': True,
      'ActionOptimizer.num_candidates': best.num_candidates
      if best.num_gradient_steps
      else min(num_candidates, best.num_samples),
      'ActionOptimizer.num_gradient_steps': best.num_gradient_steps,
  }
  if best.num_gradient_steps:
    values['ActionOptimizer.step_size'] = best.step_size
  comment = [
      f'Found by parl-search for the checkpoint {checkpoint!r} at training step'
      f' {train_step}.',
      *(f'With {binding}' for binding in gin_bindings),
      *describe(found).splitlines(),
  ]
  lines = [
      *(f'# {line}' for line in comment),
      'import parl_tf.search.action_optimizer',
      'import parl_tf.search.action_source',
      '',
      *(
          f'{scope}/{name} = {value}'
          for scope in _SCOPES
          for name, value in values.items()
      ),
      # Searches are measured with the best candidate. Acting may sample.
      "evaluation/Search.selection = 'argmax'",
  ]
  return '\n'.join(lines) + '\n'


def usage(
    root_dir: str,
    checkpoint: str,
    gin_file: str,
    gin_bindings: Sequence[str] = (),
) -> str:
  """Returns the commands that use a gin file.

  Args:
    root_dir: Directory of the run.
    checkpoint: Name of the checkpoint with the networks.
    gin_file: The file.
    gin_bindings: Bindings that the search overrode the run's with.
  """
  given = [x for text in gin_bindings for x in ('--gin_bindings', text)]
  lines = [f'Wrote {gin_file}.']
  if checkpoint == 'offline':
    lines += [
        'To fine-tune with it, begin a new run from this one:',
        _command([*_train_words(root_dir, gin_file), *given]),
    ]
  if checkpoint == 'last':
    lines += [
        'To evaluate the run with it:',
        _command([
            'parl-evaluate', '--root_dir', root_dir, '--gin_file', gin_file,
            *given,
        ]),
    ]
  lines += [
      'To export the policy with it:',
      _command([
          'parl-export', '--root_dir', root_dir, '--checkpoint', checkpoint,
          '--gin_file', gin_file, *given, '--output', 'exported/greedy_policy',
      ]),
  ]
  return '\n'.join(lines)


def _train_words(root_dir, gin_file):
  """Returns the command of a run that begins after the offline phase."""
  seed, settings = run_files.read_config(root_dir)
  bindings = [f'run_experiment.initial_run = "{root_dir}"']
  if settings.get('run_experiment.initial_phase', 'None') != 'None':
    bindings.append('run_experiment.initial_phase = "offline"')
  phases = run_files.resolve(
      settings.get('run_experiment.phase_names', _PHASES), settings
  )
  if 'online' not in phases:
    bindings.append(f'run_experiment.phase_names = {_PHASES}')
  return [
      'parl-train', '--root_dir', f'{root_dir.rstrip(os.sep)}_searched',
      '--seed', str(seed),
      '--gin_file', os.path.join(root_dir, run_files.CONFIG),
      '--gin_file', gin_file,
      *(x for binding in bindings for x in ('--gin_bindings', binding)),
  ]


def _command(words):
  return f'  {shlex.join(words)}'
