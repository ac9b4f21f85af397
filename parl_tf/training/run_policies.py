"""Exports the policies of a run."""

import os
import shutil
from typing import Dict, Optional, Sequence

from absl import logging
import numpy as np
import tensorflow as tf

from parl_tf import frame_stack
from parl_tf import synced_file
from parl_tf import types
from parl_tf.training import export
from parl_tf.training import export_source
from parl_tf.training import run_summary

ADAPTERS = 'adapters.npz'
"""File of a policy's adapters alone, beside its exports."""


def export_run(
    session, episodes: Sequence[types.Episode], names: Sequence[str],
    phase: str = '',
) -> Dict[str, str]:
  """Exports the current policies of these names; returns their paths.

  The policies of a phase are exported only once, because a resumed session has
  later weights. After behavior cloning no critic has been trained, so that a
  policy that needs one is not exported.

  At the end, exports that an earlier session made of other policies are
  renamed, because they have earlier weights.
  """
  if session.state.phase == 'behavior_cloning' and needs_critic(session.agent):
    names = [name for name in names if name == 'base_policy']
  paths = _paths(session, names, phase)
  if not phase:
    _set_aside_others(session, paths)
  _export(
      session,
      episodes,
      {
          name: path
          for name, path in paths.items()
          if not phase or not (os.path.exists(path) or session.is_past(phase))
      },
      phase or 'last',
  )
  return paths


def needs_critic(agent) -> bool:
  """Returns whether other policies than `base_policy` search with a critic."""
  return getattr(agent, 'critic', None) is not None


def export_best(
    session, episodes: Sequence[types.Episode], names: Sequence[str]
) -> Optional[run_summary.BestEvaluation]:
  """Exports the policies of the best online evaluation.

  Only if the last evaluation is worse by more than chance explains.

  Args:
    session: Session of a run whose phases have ended.
    episodes: Episodes with example observations.
    names: Names of the policies to export.

  Returns:
    That evaluation, with the paths of its policies; None if the last one is as
    good.
  """
  shutil.rmtree(
      os.path.join(session.root_dir, 'policies', 'best'), ignore_errors=True
  )
  state, kept = session.state, session.best_policies
  last = state.summaries.get('online')
  if last is None or kept is None:
    return None
  if not kept.exceeds(last, state.num_online_evaluations):
    return None
  paths = _paths(session, names, 'best')
  if paths:  # None of a served policy.
    with kept.restored():
      _export(session, episodes, paths, 'best', kept.best.train_step)
  return kept.best._replace(policies=paths)


def _paths(session, names, phase):
  return {
      name: os.path.join(session.root_dir, 'policies', phase, name)
      for name in session.agent.named_policies
      if name in names
  }


def _set_aside_others(session, paths):
  """Renames what earlier sessions exported and this one does not replace."""
  others = [x for x in session.agent.named_policies if x not in paths]
  if others and not paths:
    others.append(ADAPTERS)
  for name in others:
    path = os.path.join(session.root_dir, 'policies', name)
    if os.path.exists(path):
      kept = synced_file.free_path(path, 'replaced')
      os.rename(path, kept)
      logging.warning(
          'An earlier session exported %s, which this one does not; it is now'
          ' %s.',
          path,
          kept,
      )


def _export(session, episodes, paths, checkpoint, train_step=None):
  if not paths:
    return
  named = session.agent.named_policies
  policies = {path: named[name] for name, path in paths.items()}
  logging.info(
      'Exporting %s, which takes some seconds each, or more beside other'
      ' programs. To export fewer policies, bind'
      ' `run_experiment.exported_policies`.',
      ', '.join(os.path.relpath(path, session.root_dir) for path in policies),
  )
  # Before the policies: if these are there, so are the adapters.
  adapters = session.agent.generative_policy.adapters
  if adapters is not None:
    folder = os.path.dirname(next(iter(policies)))
    path = os.path.join(folder, ADAPTERS)
    synced_file.make_directory(folder)
    adapters.save(path + synced_file.PARTIAL_SUFFIX)
    synced_file.sync(path + synced_file.PARTIAL_SUFFIX)
    os.replace(path + synced_file.PARTIAL_SUFFIX, path)
    logging.info('Wrote %d bytes of adapters.', adapters.num_bytes)
  differences = export.export_policies(
      policies,
      session.domain.raw_action_bounds,
      # The live policies are already compiled for the evaluation's batch size.
      _example(
          episodes, session.evaluator.batch_size, session.agent.num_frames
      ),
      measure_latency=True,
      task=session.domain.name,
      sources={
          path: export_source.describe(
              session.agent, session.root_dir, checkpoint, name, train_step
          )
          for name, path in paths.items()
      },
  )
  for path, difference in differences.items():
    logging.info(
        'Exported %s (difference from the live policy: %.1g).',
        os.path.relpath(path, session.root_dir),
        difference,
    )


def _example(episodes, num_rows, num_frames):
  """Returns the first observations `[num_rows, ...]`, repeated if too few."""
  chosen = []
  for episode in episodes:
    index = np.arange(episode.num_steps + 1)
    chosen.append(
        frame_stack.read_episode(episode.observation, index, num_frames)
    )
    if sum(len(tf.nest.flatten(x)[0]) for x in chosen) >= num_rows:
      break
  return tf.nest.map_structure(
      lambda *leaves: tf.constant(
          np.resize(np.concatenate(leaves), (num_rows, *leaves[0].shape[1:]))
      ),
      *chosen,
  )
