"""Exports the policies of a run."""

import os
from typing import Dict, Sequence

from absl import logging
import numpy as np
import tensorflow as tf

from parl_tf import frame_stack
from parl_tf import types
from parl_tf.training import export


def export_run(
    session, episodes: Sequence[types.Episode], names: Sequence[str],
    phase: str = '',
) -> Dict[str, str]:
  """Exports the current policies of these names; returns their paths.

  The policies of a phase are exported only once, because a resumed session has
  later weights. Those at the end of the run have their latency measured.
  """
  paths, policies = {}, {}
  for name, policy in session.agent.named_policies.items():
    if name not in names:
      continue
    path = os.path.join(session.root_dir, 'policies', phase, name)
    paths[name] = path
    if not phase or not (os.path.exists(path) or session.is_past(phase)):
      policies[path] = policy
  differences = export.export_policies(
      policies,
      session.domain.raw_action_bounds,
      # The live policies are already compiled for the evaluation's batch size.
      _example(
          episodes, session.evaluation_batch_size, session.agent.num_frames
      ),
      measure_latency=not phase,
  )
  for path, difference in differences.items():
    logging.info(
        'Exported %s (difference from the live policy: %.1g).',
        os.path.relpath(path, session.root_dir),
        difference,
    )
  return paths


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
