"""Tests the compiled gradients in builds with sanitizers (`make sanitize`): memory errors, undefined behaviour, races.

The package is copied to a temporary folder, so that no build of it changes. GCC on Linux only.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDER = Path("memae", "training", "compiled_gradients")
WIDTHS: dict[str, list[str]] = {"any": []}  # as in setup.py
if sysconfig.get_platform().endswith("x86_64"):
    WIDTHS["avx2"] = ["-mavx2", "-mfma"]
    WIDTHS["avx512"] = ["-march=x86-64-v4", "-mprefer-vector-width=512"]
BASIC = [
    "-std=c++20",
    "-O1",
    "-g",
    "-fno-sanitize-recover=all",
    "-fvisibility=hidden",
    "-shared",
    "-fPIC",
    "-pthread",
]
TESTS = [
    "tests/training/test_compiled_fuzz.py",
    "tests/training/test_compiled_network.py",
    "tests/training/test_flat_adam.py",
]
# without a library the tests are skipped, and nothing would be tested
LOADED = """
import sys
from pathlib import Path
import memae
from memae.training.compiled_gradients import library
assert Path(memae.__file__).is_relative_to(sys.argv[1]), memae.__file__
missing = [width for width in library.widths() if library.load(width) is None]
assert not missing, f"the build for {missing} does not load"
print("testing the builds for", *library.widths())
"""
KINDS = {  # libraries to load before Python, random networks, more tests
    "address,undefined": (["libasan.so", "libubsan.so"], 800, ["tests/training/test_compiled_gradients.py"]),
    "thread": (["libtsan.so"], 250, []),
}


def build(kind: str, into: Path) -> None:
    """Copies the package and builds the library of each width with a sanitizer."""
    ignored = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(ROOT / "src" / "memae", into / "memae", ignore=ignored)
    sources, suffix = sorted((into / FOLDER).glob("*.cpp")), sysconfig.get_config_var("EXT_SUFFIX")
    for width, flags in WIDTHS.items():
        made = into / FOLDER / f"_{width}{suffix}"
        subprocess.run(["g++", *BASIC, *flags, f"-fsanitize={kind}", *sources, "-o", made], check=True)


def test(kind: str, package: Path) -> int:
    """Runs the tests on such a build; gives their exit status."""
    libraries, networks, more = KINDS[kind]
    found = [
        subprocess.run(
            ["gcc", f"-print-file-name={name}"], check=True, capture_output=True, text=True
        ).stdout.strip()
        for name in libraries
    ]
    env = os.environ | {
        "LD_PRELOAD": ":".join(found),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python keeps much until it ends
        "TSAN_OPTIONS": "halt_on_error=1",
        "PYTHONPATH": str(package),
        "MEMAE_FUZZ": str(networks),
        "OMP_NUM_THREADS": "1",
    }
    # the thread sanitizer of GCC 12 knows no addresses that are as random as those of newer kernels
    python = ["setarch", "-R", sys.executable]
    subprocess.run([*python, "-c", LOADED, package], check=True, cwd=ROOT, env=env)
    command = [*python, "-m", "pytest", "-qxs", "-n", "0", "-p", "no:cacheprovider", *TESTS, *more]
    return subprocess.run(command, check=False, cwd=ROOT, env=env).returncode


def main() -> int:
    """Builds and tests every kind; 0 where all is well."""
    failed = 0
    for kind in sys.argv[1:] or KINDS:
        with tempfile.TemporaryDirectory() as folder:
            print(f"-fsanitize={kind}", flush=True)
            build(kind, Path(folder))
            failed |= test(kind, Path(folder))
    return failed


if __name__ == "__main__":
    sys.exit(main())
