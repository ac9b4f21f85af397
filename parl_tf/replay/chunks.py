"""Transitions over several steps: of action chunks and of n-step returns.

A window is n + 1 consecutive stored steps of one episode. Past the end of the
episode, it repeats the last stored step. The first H <= n actions, a chunk, are
concatenated into one action.
"""

import tensorflow as tf
from tf_agents.trajectories import trajectory as trajectory_lib


def join(
    windows: trajectory_lib.Trajectory, gamma: float, chunk_length: int
) -> trajectory_lib.Trajectory:
  """Converts windows into transitions.

  A window has h valid steps: n, or fewer if the episode ends earlier. The
  reward is the sum of gamma^k r_k over the valid steps. The discount is
  gamma^(h - 1) times the product of their discounts. `losses.td_target` with
  the state after the valid steps is therefore the h-step target.

  Args:
    windows: Trajectory `[rows, n + 1, ...]`, rewards scaled. The observations
      may be those of the first and the last step alone, `[rows, 2, ...]`.
    gamma: Discount factor.
    chunk_length: H, the number of actions to keep, at most n.

  Returns:
    Trajectory `[rows, 2, ...]`. Its actions `[rows, 2, H * A]` are 0 for steps
    past the end. Of chunks, H > 1, its `policy_info` has `action_mask`
    `[rows, 2, H * A]`, which is 1 for the actions that were taken.
  """
  length = windows.reward.shape[1] - 1
  action_size = windows.action.shape[-1]
  step_index = windows.policy_info['step_index']
  num_steps = step_index[:, -1] - step_index[:, 0]  # h
  is_valid = tf.sequence_mask(num_steps, length, tf.float32)  # [rows, n]
  powers = gamma ** tf.range(length, dtype=tf.float32)
  # Ignore rewards after a step that ended the task.
  is_running = tf.math.cumprod(windows.discount[:, :-1], axis=1, exclusive=True)
  reward = tf.reduce_sum(
      is_valid * powers * is_running * windows.reward[:, :-1], axis=1
  )
  discount = tf.reduce_prod(
      tf.where(is_valid > 0.0, windows.discount[:, :-1], 1.0), axis=1
  ) * gamma ** tf.cast(num_steps - 1, tf.float32)
  actions = tf.reshape(
      windows.action[:, :chunk_length], [-1, chunk_length * action_size]
  )

  def pair(first):
    return tf.stack([first, tf.zeros_like(first)], axis=1)

  info = {}
  if chunk_length > 1:  # The first action of a window was always taken.
    mask = tf.repeat(is_valid[:, :chunk_length], action_size, axis=1)
    actions *= mask
    info = dict(action_mask=pair(mask))

  def first_and_last(leaf):
    if leaf.shape[1] == 2:  # Images need not be copied.
      return leaf
    return tf.stack([leaf[:, 0], leaf[:, -1]], axis=1)

  # The last stored step of a window comes after its valid environment steps.
  ends = tf.nest.map_structure(first_and_last, windows)
  return ends._replace(
      action=pair(actions),
      reward=pair(reward),
      discount=pair(discount),
      next_step_type=tf.stack(
          [windows.step_type[:, -1], windows.next_step_type[:, -1]], axis=1
      ),
      policy_info=dict(ends.policy_info, **info),
  )
