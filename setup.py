"""The compiled part of memae: one library for each width of registers. What cannot be built is left out."""

import platform

from setuptools import Extension, setup

FOLDER = "src/memae/training/compiled_gradients"
FLAGS = {"any": []}
if platform.machine().lower() in ("x86_64", "amd64"):
    FLAGS["avx2"] = ["-mavx2", "-mfma"]
    FLAGS["avx512"] = ["-march=x86-64-v4", "-mprefer-vector-width=512"]

setup(
    ext_modules=[
        Extension(
            f"memae.training.compiled_gradients._{width}",
            [f"{FOLDER}/simd_batch.cpp", f"{FOLDER}/adam.cpp"],
            depends=[f"{FOLDER}/{name}.h" for name in ("gradients", "simd", "network", "layers", "memory_read")],
            extra_compile_args=["-std=c++20", "-O3", "-fno-math-errno", "-fvisibility=hidden", "-pthread", *flags],
            extra_link_args=["-pthread"],
            optional=True,  # no compiler: torch does the same, more slowly
        )
        for width, flags in FLAGS.items()
    ]
)
