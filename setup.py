"""The compiled part of memae: one library for each width of registers. What cannot be built is left out."""

import platform
import sys

from setuptools import Extension, setup

SOURCES = ["src/memae/native/lanes.cpp"]
FLAGS = {"any": []}
if platform.machine().lower() in ("x86_64", "amd64"):
    FLAGS["avx2"] = ["-mavx2", "-mfma"]
    FLAGS["avx512"] = ["-march=x86-64-v4", "-mprefer-vector-width=512"]
THREADS = [] if sys.platform == "darwin" else ["-fopenmp"]  # Apple's compiler comes without

setup(
    ext_modules=[
        Extension(
            f"memae.native._{width}",
            SOURCES,
            depends=["src/memae/native/registers.h"],
            extra_compile_args=["-std=c++17", "-O3", "-fvisibility=hidden", *THREADS, *flags],
            extra_link_args=THREADS,
            optional=True,  # no compiler: torch does the same, more slowly
        )
        for width, flags in FLAGS.items()
    ]
)
