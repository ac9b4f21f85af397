"""Tests of which rows a replica has; of training on them: `mirrored_test`."""

from absl.testing import absltest
import numpy as np
import tensorflow as tf

from parl_tf.training import replica_learner

_CONTEXT = tf.distribute.experimental.ValueContext


class ReplicaShareTest(absltest.TestCase):

  def test_a_replica_has_its_rows_of_every_slice(self):
    # Two slices of four rows.
    rows = {'x': tf.range(8), 'y': tf.reshape(tf.range(16), [8, 2])}

    first, second = (
        replica_learner.replica_share('critic', rows, 2, _CONTEXT(i, 2))
        for i in range(2)
    )

    np.testing.assert_array_equal(first['x'], [0, 1, 4, 5])
    np.testing.assert_array_equal(second['x'], [2, 3, 6, 7])
    np.testing.assert_array_equal(
        second['y'], [[4, 5], [6, 7], [12, 13], [14, 15]]
    )

  def test_one_replica_has_all_rows(self):
    rows = tf.range(6)

    share = replica_learner.replica_share('cloning', rows, 1, _CONTEXT(0, 1))

    np.testing.assert_array_equal(share, rows)

  def test_rows_that_cannot_be_shared_evenly_are_refused(self):
    # Ten rows are two slices of five, which two devices cannot share.
    with self.assertRaisesRegex(
        ValueError, '`critic`.*2 updates times 2 devices, got 10'
    ):
      replica_learner.replica_share(
          'critic', tf.range(10), 2, _CONTEXT(0, 2)
      )


if __name__ == '__main__':
  absltest.main()
