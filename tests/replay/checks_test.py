"""Tests of the checks of episodes and stored steps.

The modules that use the checks test what they refuse: `episode_writer_test`,
`episode_log_test`, `memory_experience_test` and `tables_test`.
"""

from typing import Any, NamedTuple

from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from parl_tf.replay import checks


class _Fields(NamedTuple):
  first: Any
  second: Any = ()
  third: Any = ()


class NamedLeavesTest(parameterized.TestCase):

  def test_mappings_are_named_by_field_and_sorted_key(self):
    fields = _Fields(first={'b': 1, 'a': 2}, third=3)
    self.assertEqual(
        list(checks.named_leaves(fields)),
        [('first/a', 2), ('first/b', 1), ('third', 3)],
    )


class CheckStepSpecTest(parameterized.TestCase):

  _WANTED = {
      'x': checks.FieldSpec(np.dtype(np.float32), (2,)),
      'y': checks.FieldSpec(np.dtype(np.bool_), ()),
  }

  def test_equal_specs_pass(self):
    checks.check_step_spec('table', dict(self._WANTED), self._WANTED)

  def test_missing_and_unknown_fields_are_named(self):
    seen = {'x': self._WANTED['x'], 'z': self._WANTED['y']}
    with self.assertRaisesRegex(
        ValueError, r"table: .*missing \['y'\], unknown \['z'\]"
    ):
      checks.check_step_spec('table', seen, self._WANTED)

  def test_shape_seen_and_wanted_are_named(self):
    seen = dict(
        self._WANTED, x=checks.FieldSpec(np.dtype(np.float32), (3,))
    )
    with self.assertRaisesRegex(
        ValueError,
        r'table: field `x` must be float32 of shape \[2\] at each step, got '
        r'float32 of shape \[3\]',
    ):
      checks.check_step_spec('table', seen, self._WANTED)


if __name__ == '__main__':
  tf.test.main()
