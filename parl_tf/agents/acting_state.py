"""The policy state between steps: the next seed and the rest of a chunk."""

from typing import Callable, Optional, Tuple

import tensorflow as tf
from tf_agents.trajectories import time_step as ts

from parl_tf import randomness
from parl_tf import types


class ActingState:
  """The state of a policy that draws chunks of H actions.

  The state holds the seed of the next draw, so an episode is a function of its
  initial seed. With H > 1 it also holds the current chunk, one action of which
  is taken at each step.

  Attributes:
    spec: `randomness.SEED_SPEC` if H = 1, otherwise a dict of `seed`, `chunk`
      `[H, A]` and `remaining`, the number of actions left in the chunk.
  """

  def __init__(self, action_size: int, chunk_length: int):
    """Initializes the state.

    Args:
      action_size: A, the dimension of one step's action.
      chunk_length: H, the number of actions in a chunk.
    """
    self._shape = (chunk_length, action_size)
    self.spec = randomness.SEED_SPEC
    if chunk_length > 1:
      self.spec = {
          'seed': randomness.SEED_SPEC,
          'chunk': tf.TensorSpec(self._shape, tf.float32, 'chunk'),
          'remaining': tf.TensorSpec([], tf.int32, 'remaining'),
      }

  def initial(self, batch_size: tf.Tensor, seed: tf.Tensor) -> types.Nest:
    """Returns the initial state `[B, ...]` of episodes that start from `seed`.

    Args:
      batch_size: B.
      seed: `[2]` int32.
    """
    seeds = tf.tile(seed[tf.newaxis], [batch_size, 1])
    if self._shape[0] == 1:
      return seeds
    return {
        'seed': seeds,
        'chunk': tf.zeros([batch_size, *self._shape]),
        'remaining': tf.zeros([batch_size], tf.int32),
    }

  def step(
      self,
      act: Callable[[types.Nest, tf.Tensor], tf.Tensor],
      time_step: ts.TimeStep,
      state: types.Nest,
      seed: Optional[tf.Tensor] = None,
  ) -> Tuple[tf.Tensor, types.Nest]:
    """Returns the actions of one step; draws new chunks when they are needed.

    Args:
      act: Draws chunks `[B, H * A]` for observations and a seed.
      time_step: `[B, ...]`.
      state: Nest of `[B, ...]` as in `spec`. The whole batch uses the seed of
        its first row; each row gets its own noise.
      seed: A number or a pair, folded into the seed of the draw, if given.

    Returns:
      Actions `[B, A]` and the next state.

    Raises:
      ValueError: If there is no state, or the shape of the seed is unknown.
    """
    if isinstance(state, tuple) and not state:
      raise ValueError(
          '`policy_state` must be what `get_initial_state(batch_size)` or the'
          ' last step returned, got (). It holds the seed of the next draw.'
      )
    has_chunks = self._shape[0] > 1
    seeds = state['seed'] if has_chunks else state
    key = seeds[0]
    if seed is not None:
      numbers = tf.reshape(seed, [-1])
      if numbers.shape[0] is None:
        raise ValueError('`seed` must have a static shape: a number or a pair.')
      key = randomness.fold_in(key, *tf.unstack(numbers))
    next_seeds = tf.broadcast_to(
        randomness.fold_in(key, 'next'), tf.shape(seeds)
    )
    if not has_chunks:
      return act(time_step.observation, key), next_seeds
    is_over = time_step.is_first() | (state['remaining'] <= 0)
    chunk = tf.cond(
        tf.reduce_any(is_over),
        lambda: tf.where(
            is_over[:, tf.newaxis, tf.newaxis],
            tf.reshape(act(time_step.observation, key), [-1, *self._shape]),
            state['chunk'],
        ),
        lambda: state['chunk'],
    )
    remaining = tf.where(is_over, self._shape[0], state['remaining'])
    action = tf.gather(chunk, self._shape[0] - remaining, batch_dims=1)
    return action, {
        'seed': next_seeds, 'chunk': chunk, 'remaining': remaining - 1
    }
