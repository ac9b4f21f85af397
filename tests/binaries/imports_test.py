"""Tests of faster imports."""

import gc

from absl.testing import absltest

from parl_tf.binaries import imports


class GarbageCollectionTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.addCleanup(gc.enable)
    gc.enable()

  def test_it_is_paused_until_the_import_ends(self):
    with imports.without_garbage_collection():
      self.assertFalse(gc.isenabled())
    self.assertTrue(gc.isenabled())

  def test_it_is_resumed_after_a_failed_import(self):
    with self.assertRaises(ImportError):
      with imports.without_garbage_collection():
        raise ImportError('No such module.')
    self.assertTrue(gc.isenabled())

  def test_only_the_outer_import_resumes_it(self):
    with imports.without_garbage_collection():
      with imports.without_garbage_collection():
        pass
      self.assertFalse(gc.isenabled())


if __name__ == '__main__':
  absltest.main()
