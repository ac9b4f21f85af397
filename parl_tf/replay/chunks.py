"""Transitions over several steps, for policies that act in chunks.

A window is H + 1 consecutive stored steps of one episode; past the last of the
episode it repeats that step. Chunks of H actions are joined to one action.
"""

import tensorflow as tf
from tf_agents.trajectories import trajectory as trajectory_lib


def join(
    windows: trajectory_lib.Trajectory, gamma: float
) -> trajectory_lib.Trajectory:
  """Makes transitions of windows.

  With h valid steps, H unless the episode ends before, the reward is the sum of
  gamma^k r_k over them and the discount gamma^(h - 1) times the product of
  theirs, so that `losses.td_target` with the state after them is the target of
  h steps.

  Args:
    windows: Trajectory `[rows, H + 1, ...]`, rewards scaled.
    gamma: Discount factor.

  Returns:
    Trajectory `[rows, 2, ...]`, its actions `[rows, 2, H * A]` with 0 for steps
    past the end, its `policy_info` with `action_mask` `[rows, 2, H * A]`, 1
    where an action was taken.
  """
  length = windows.reward.shape[1] - 1
  action_size = windows.action.shape[-1]
  step_index = windows.policy_info['step_index']
  num_steps = step_index[:, -1] - step_index[:, 0]  # h
  is_valid = tf.sequence_mask(num_steps, length, tf.float32)  # [rows, H]
  powers = gamma ** tf.range(length, dtype=tf.float32)
  # Nothing counts that follows a step which ended the task.
  going_on = tf.math.cumprod(windows.discount[:, :-1], axis=1, exclusive=True)
  reward = tf.reduce_sum(
      is_valid * powers * going_on * windows.reward[:, :-1], axis=1
  )
  discount = tf.reduce_prod(
      tf.where(is_valid > 0.0, windows.discount[:, :-1], 1.0), axis=1
  ) * gamma ** tf.cast(num_steps - 1, tf.float32)
  mask = tf.repeat(is_valid, action_size, axis=1)
  actions = mask * tf.reshape(
      windows.action[:, :-1], [-1, length * action_size]
  )

  def pair(first):
    return tf.stack([first, tf.zeros_like(first)], axis=1)

  # The last stored step of a window follows its valid environment steps.
  ends = tf.nest.map_structure(
      lambda leaf: tf.stack([leaf[:, 0], leaf[:, -1]], axis=1), windows
  )
  return ends._replace(
      action=pair(actions),
      reward=pair(reward),
      discount=pair(discount),
      next_step_type=tf.stack(
          [windows.step_type[:, -1], windows.next_step_type[:, -1]], axis=1
      ),
      policy_info=dict(ends.policy_info, action_mask=pair(mask)),
  )
