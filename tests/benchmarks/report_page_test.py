"""Tests of the report's page in a browser."""

import os

from absl.testing import absltest
from matplotlib import image
import pytest

from benchmarks import report_page
from parl_tf.binaries import report_files
from tests.reports import run_folders


class ReportPageTest(absltest.TestCase):

  def test_missing_files_are_found(self):
    folder = self.create_tempdir()
    folder.create_file('a b.png')
    text = '<img src="a%20b.png"><a href="c.csv">c</a><a href="http://x">x</a>'

    self.assertEqual(
        report_page.missing_files(f'{folder.full_path}/index.html', text),
        ['c.csv'],
    )

  @pytest.mark.full
  def test_browser_opens_the_page_and_everything_on_it(self):
    folder = self.create_tempdir().full_path
    study = run_folders.write_study(f'{folder}/study', {'a': [10.0, 20.0]})
    report_files.write_report([study], f'{folder}/report')
    page = os.path.join(folder, 'report', 'index.html')
    picture = os.path.join(folder, 'page.png')

    text = report_page.take_screenshot(page, picture, 1280, 900)

    self.assertEqual(image.imread(picture).shape[:2], (900, 1280))
    self.assertIn('Comparison of runs', text)
    self.assertEmpty(report_page.missing_files(page, text))


if __name__ == '__main__':
  absltest.main()
