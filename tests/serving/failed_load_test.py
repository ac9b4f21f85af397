"""Tests of a server whose policy cannot load a version."""

from absl.testing import absltest
import numpy as np

from parl_tf.serving import connection
from parl_tf.serving import weights
from tests.serving import toy_policy


class FailedLoadTest(absltest.TestCase):

  def test_a_load_that_fails_halfway_leaves_no_usable_version(self):
    policy = toy_policy.ToyPolicy()
    load, faults = policy.load, []

    def load_or_fail(path):
      load(path)
      if faults:
        raise faults.pop()

    server = self.enter_context(
        toy_policy.serving(
            policy.functions()._replace(load=load_or_fail),
            directory=self.create_tempdir().full_path,
        )
    )
    client = self.enter_context(toy_policy.connect(server))
    client.save('initial')
    rows = toy_policy.observation(4)
    version = client.train(
        rows, np.ones([4, 4, 2]), num_steps=2, seed=0, version='initial'
    ).version
    client.save(version)
    offset = policy.offset.copy()
    faults.append(OSError('a torn file'))
    with self.assertRaisesRegex(connection.PolicyServerError, 'a torn file'):
      client.load('initial')
    self.assertEqual(client.status()['version'], f'{version}.failed')
    for name in (version, 'initial'):
      with self.assertRaises(weights.StaleVersionError):
        client.sample(rows, 1, 0, name)
    client.load(version)
    np.testing.assert_array_equal(policy.offset, offset)


if __name__ == '__main__':
  absltest.main()
