"""Tests which changes of a dataset the replay service notices."""

import os

from absl.testing import absltest
import gin

from parl_tf.distributed import experiment_service
from parl_tf.training import experiment


class RecordedDatasetTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.addCleanup(gin.clear_config)
    gin.clear_config()
    self._learner = self.create_tempdir().full_path
    self._path = os.path.join(self._learner, 'data.hdf5')
    self._write(self._path)

  def _write(self, path):
    with open(path, 'w', encoding='ascii') as file:
      file.write('rows')

  def test_dataset_that_the_learner_records_again_is_noticed(self):
    dataset = experiment_service.RecordedDataset(self._learner)
    self.assertEqual(dataset.path, self._path)
    dataset.check()
    os.remove(self._path)
    dataset.check()  # It is being recorded.
    self._write(self._path + '.partial')
    os.utime(self._path + '.partial', (1, 1))
    os.replace(self._path + '.partial', self._path)

    with self.assertRaisesRegex(ValueError, 'data.hdf5: the learner has recor'):
      dataset.check()

  def test_dataset_of_the_user_may_be_touched(self):
    path = os.path.join(self.create_tempdir().full_path, 'mine.hdf5')
    self._write(path)
    with gin.unlock_config():
      gin.bind_parameter(
          f'{experiment.run_experiment.__name__}.dataset_path', path
      )
    dataset = experiment_service.RecordedDataset(self._learner)
    os.utime(path, (1, 1))
    dataset.check()


if __name__ == '__main__':
  absltest.main()
