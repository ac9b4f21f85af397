"""Tests of the bindings that change what a configuration does."""

from absl.testing import absltest
from absl.testing import parameterized
import gin

from parl_tf.training import effective_bindings


@gin.configurable(module='effective_bindings_test')
def search(num_samples=8, ratio=0.5, sizes=(2, 2), name=None, **others):
  return num_samples, ratio, sizes, name, others


class EffectiveBindingsTest(parameterized.TestCase):

  @parameterized.parameters(
      'search.num_samples = 8',
      'search.sizes = (2, 2)',
      'search.name = None',
      'effective_bindings_test.search.ratio = 0.5',
  )
  def test_a_binding_to_the_default_is_dropped(self, line):
    self.assertEqual(effective_bindings.effective([line]), [])

  @parameterized.parameters(
      'search.num_samples = 9',
      'search.num_samples = True',
      'search.sizes = [2, 2]',
      'search.name = @search()',
      "search.name = 'None'",
      'search.other = 8',
      'unknown.num_samples = 8',
      # Without it, a binding of `search.num_samples` would hold.
      'acting/search.num_samples = 8',
      '# seed = 8',
  )
  def test_other_lines_are_kept(self, line):
    self.assertEqual(effective_bindings.effective([line]), [line])

  def test_macros_are_replaced(self):
    lines = [
        'search.num_samples = %number',
        'search.sizes = (%number, %other)',
        'search.ratio = %gin.REQUIRED',
        'number = %other',
        'other = 8',
    ]
    self.assertEqual(
        effective_bindings.effective(lines),
        ['search.sizes = (8, 8)', 'search.ratio = %gin.REQUIRED'],
    )


if __name__ == '__main__':
  absltest.main()
