"""Packaging of parl_tf: policy-agnostic reinforcement learning (PA-RL)."""

import pathlib
import re

import setuptools

_ROOT = pathlib.Path(__file__).resolve().parent
_VERSION = re.search(
    r"^__version__ = '(.+)'$",
    (_ROOT / 'parl_tf' / '__init__.py').read_text(encoding='utf-8'),
    re.MULTILINE,
).group(1)

_LINUX = 'sys_platform == "linux" and platform_machine == "x86_64"'

# Version ranges that are known to work together. constraints.txt pins one exact
# set, which `make` installs and the tests use.
_REQUIREMENTS = [
    'absl-py>=1.0',
    'dm-env>=1.6,<2',
    # dm-reverb has wheels for Linux on x86-64 only. Other platforms can
    # evaluate policies but not train them.
    'dm-reverb>=0.14,<0.15; ' + _LINUX,
    'dm-tree>=0.1.8',
    'gin-config>=0.5,<0.6',
    'gymnasium>=1.0,<2',
    'gymnasium-robotics>=1.4,<1.5',
    'h5py>=3.10,<4',
    'imageio>=2.31,<3',
    'imageio-ffmpeg>=0.5',
    'keras>=2.15,<2.16',
    'matplotlib>=3.8,<4',
    # The kitchen fails an assertion with MuJoCo 4; its original model fails
    # with 3.2.
    'mujoco==3.1.6',
    'numpy>=1.23.5,<2',
    # rliable imports arch, which cannot be imported with pandas 3.
    'pandas>=1.4,<3',
    'rich>=13',
    'rliable>=1.2,<2',
    'scipy>=1.11',
    # TensorBoard 2.15 imports pkg_resources, which setuptools 81 drops.
    'setuptools<81',
    'tensorflow>=2.15,<2.16',
    'tensorflow-probability>=0.23,<0.24',
    'tf-agents>=0.19,<0.20',
    'tf-agents[reverb]>=0.19,<0.20; ' + _LINUX,
]

# There is no `d4rl` extra: D4RL requires mujoco-py, which crashes on import
# without the old MuJoCo binary. `make d4rl` installs D4RL without its
# requirements, which is enough for its scores and original environments.
_OGBENCH = [
    # The versions that are compatible with the pinned MuJoCo.
    'dm-control==1.0.20',
    'ogbench>=1.2,<1.3',
]
_LEROBOT = [
    # The ffmpeg of older versions cannot pass frames through unchanged.
    'imageio-ffmpeg>=0.6',
    # pyarrow 26 needs NumPy 2.
    'pyarrow>=15,<26',
]
_REMOTE = [
    # 1.1.7 and later need a newer protobuf than TensorFlow 2.15 allows.
    'dm-env-rpc>=1.1.6,<1.1.7',
    'grpcio>=1.50',
]
_RAY = ['ray>=2.40']
_EXTRAS = {
    'ray': _RAY,
    'remote': _REMOTE,
    'lerobot': _LEROBOT,
    'ogbench': _OGBENCH,
    'test': [
        *_LEROBOT,
        *_OGBENCH,
        *_RAY,
        *_REMOTE,
        'hypothesis>=6.90',
        'psutil>=5.9',
        'pytest>=8',
        'pytest-xdist>=3.6',
        'ruff>=0.6',
    ],
}

# The gin files are in `gin/`. gin-config owns that package name, so they are
# installed as package data of `parl_tf.configs`.
_CONFIGS = 'parl_tf.configs'

setuptools.setup(
    name='parl_tf',
    version=_VERSION,
    description=(
        'Policy-agnostic reinforcement learning (PA-RL) on TF-Agents: offline '
        'RL and online fine-tuning of any policy class'
    ),
    long_description=(_ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    license_files=['LICENSE'],
    classifiers=[
        'Development Status :: 3 - Alpha',
        'Intended Audience :: Science/Research',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    python_requires='>=3.10,<3.12',
    packages=[
        *setuptools.find_packages(include=['parl_tf', 'parl_tf.*']),
        'reverb_server',
        _CONFIGS,
    ],
    package_dir={_CONFIGS: 'gin'},
    package_data={_CONFIGS: ['*.gin', '**/*.gin']},
    install_requires=_REQUIREMENTS,
    extras_require=_EXTRAS,
    entry_points={
        'console_scripts': [
            'parl-collect = parl_tf.binaries.collect:run',
            'parl-data = parl_tf.binaries.data:run',
            'parl-evaluate = parl_tf.binaries.evaluate:run',
            'parl-export = parl_tf.binaries.export:run',
            'parl-launch = parl_tf.binaries.launch:run',
            'parl-learn = parl_tf.binaries.learn:run',
            'parl-report = parl_tf.binaries.report:run',
            'parl-reverb-server = reverb_server.server:run',
            'parl-train = parl_tf.binaries.train:run',
        ],
    },
    zip_safe=False,
)
