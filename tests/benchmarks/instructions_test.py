"""Tests for benchmarks.instructions."""

from absl.testing import absltest
import numpy as np

from benchmarks import instructions
from parl_tf import types
from parl_tf.domains import drawn_maze
from parl_tf.training import evaluation_result


def _result(colors, successes, key='instruction'):
  episodes = []
  for color in colors:
    tokens = drawn_maze.encode_instruction(color)
    episodes.append(
        types.Episode(
            observation={key: np.stack([tokens, tokens])},
            action=np.zeros([1, 2], np.float32),
            reward=np.zeros([1], np.float32),
            discount=np.ones([1], np.float32),
            success=np.zeros([1], bool),
            episode_id=0,
            has_last_transition=True,
        )
    )
  return evaluation_result.EvaluationResult(
      tuple(episodes),
      score=0.0,
      successes=np.array(successes),
      success_steps=np.full([len(episodes)], np.nan),
      returns=np.zeros([len(episodes)]),
  )


class ByInstructionTest(absltest.TestCase):

  def test_episodes_are_grouped_by_their_words(self):
    result = _result(['red', 'blue', 'red'], [True, False, False])
    self.assertEqual(
        instructions.by_instruction(result),
        {
            'all': [True, False, False],
            'go to the blue square': [False],
            'go to the red square': [True, False],
        },
    )

  def test_observations_need_an_instruction(self):
    with self.assertRaisesRegex(ValueError, r"`instruction`, got \['words'\]"):
      instructions.by_instruction(_result(['red'], [True], key='words'))


if __name__ == '__main__':
  absltest.main()
