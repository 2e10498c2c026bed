"""Build the original BVLC Caffe (pycaffe) into build/bvlc/python, or for GPUs into build/bvlc-cuda/python.

python bvlc/build.py              build for the CPU, or do nothing when it is built
python bvlc/build.py --cuda       the same for NVIDIA GPUs (Turing and newer), beside the other
python bvlc/build.py --install    first install the Debian packages that are missing (as root)

Afterwards `PYTHONPATH=$PWD/build/bvlc/python:$PWD build/bvlc/venv/bin/python SCRIPT` runs a script of
this project on the original (with --cuda: the same under build/bvlc-cuda). The build for GPUs needs no CUDA
on the machine, only NVIDIA's driver to run: pip brings compiler and libraries of one version. cuDNN
stays off. The original's sources are those of brocolli-caffe 9.0.2 on the Python package index: the
C++ of BVLC Caffe, somewhat older than its last commit (no hooks, no Solver.param, ceil_mode for
round_mode), with layer types that others added. An interrupted build goes on where it stopped; a
finished one is made again only when the recipe, the sources or Python changed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / "build"

NAME, VERSION = "brocolli-caffe", "9.0.2"
ARCHIVE = f"{NAME}-{VERSION}.tar.gz"
ARCHIVE_SHA256 = "c6410cc60bdd6db685d441b66be7df05410f8850ac88d6b75d48ef9b2315c08a"
KEPT = ("src/caffe", "include/caffe", "python/caffe", "LICENSE", "CONTRIBUTORS.md")
REFUSED = ("src/caffe/test/", "python/caffe/test/", "__pycache__", ".pb.h", ".pb.cc", "_pb2.py")

# What the original's Python side and this project's scripts import. Boost.Python's arrays and
# protoc 3.21's messages are of the time before NumPy 2 and protobuf 5.
REQUIREMENTS = (
    "numpy>=1.26,<2",
    "protobuf>=4.21,<5",
    "scikit-image>=0.22,<0.26",
    "scipy>=1.11",
    "pillow>=10.1",
    "matplotlib>=3.7",
    "tqdm>=4.65",
    "six",
    "hypothesis>=6.90",
    "psutil>=5.9",
    "pytest>=7.4",
    "pytest-timeout>=2.2",
)

# NVIDIA's compiler, headers and libraries as pip packages (1.2 GB): all of the version that the recipe
# was made for. The least driver and GPU are that version's own.
CUDA = "cuda-toolkit[nvcc,cudart,cccl,cublas,curand]==13.0.*"
LEAST_DRIVER, LEAST_CAPABILITY = 580, 7.5

# Debian package -> a program or header by which it is recognised.
PACKAGES = {
    "cmake": "cmake",
    "g++": "g++",
    "ninja-build": "ninja",
    "protobuf-compiler": "protoc",
    "libprotobuf-dev": "google/protobuf/message.h",
    "libboost-system-dev": "boost/system/error_code.hpp",
    "libboost-filesystem-dev": "boost/filesystem.hpp",
    "libboost-thread-dev": "boost/thread.hpp",
    "libboost-python-dev": "boost/python.hpp",
    "libboost-regex-dev": "boost/regex.hpp",
    "libgoogle-glog-dev": "glog/logging.h",
    "libgflags-dev": "gflags/gflags.h",
    "libhdf5-dev": "hdf5/serial/hdf5.h",
    "libopenblas-dev": "cblas.h",
    "libgtest-dev": "gtest/gtest.h",  # a header of the engine includes it
}


class BuildError(Exception):
    """What is missing or went wrong, the rule and the fix, in one message."""

    status = 1  # of the process


class MachineError(BuildError):
    """This machine lacks compilers or libraries, and they cannot be installed from here."""

    status = 3


def main(argv: list[str] | None = None) -> int:
    """Build, and return the exit status: 0, 1, or 3 when the machine lacks what building needs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cuda", action="store_true", help="build for NVIDIA GPUs, with CUDA 13.0 from pip")
    parser.add_argument("--install", action="store_true", help="install missing Debian packages (root)")
    parser.add_argument(
        "--from", dest="archive", type=Path, metavar="ARCHIVE", help=f"{ARCHIVE}, got by hand"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="compilers at a time")
    args = parser.parse_args(argv)
    folder = BUILD / ("bvlc-cuda" if args.cuda else "bvlc")
    try:
        if built(folder):
            print(f"{_near(folder / 'python')} is built and of this recipe: nothing to do")
        else:
            build(folder, args)
    except BuildError as error:
        print(f"bvlc/build.py: {error}", file=sys.stderr)
        return error.status
    return 0


def key() -> str:
    """What the result depends on, as a hash: recipe, sources, Python, machine."""
    parts = [HERE.joinpath(name).read_bytes() for name in ("build.py", "CMakeLists.txt")]
    parts += [ARCHIVE_SHA256.encode(), sys.version.encode(), platform.machine().encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def built(folder: Path) -> bool:
    """True when folder/python is the finished result of the present recipe."""
    stamp = folder / "key"
    return stamp.is_file() and stamp.read_text() == key() and (folder / "python/caffe/_caffe.so").is_file()


def build(folder: Path, args: argparse.Namespace) -> None:
    """Do every step in folder; each leaves its result whole or not at all, so a second run goes on."""
    runs_here = not args.cuda or gpu()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "key").unlink(missing_ok=True)
    system_packages(install=args.install or os.environ.get("CI") == "true")
    source = unpack(folder, args.archive)
    python = environment(folder, (*REQUIREMENTS, CUDA) if args.cuda else REQUIREMENTS)
    package = folder / "python" / "caffe"
    shutil.copytree(source / "python/caffe", package, dirs_exist_ok=True)
    (package / "proto").mkdir(exist_ok=True)
    (package / "proto/__init__.py").touch()
    objects = folder / f"objects-{sysconfig.get_config_var('SOABI')}"
    configure = f"cmake -G Ninja -S {HERE} -B {objects} -DSOURCE={source} -DPACKAGE={package}".split()
    configure += [f"-DPython3_EXECUTABLE={python}", "-DPython3_FIND_VIRTUALENV=ONLY"]
    if args.cuda:
        configure += [f"-DCUDA={next(python.parents[1].glob('lib/python*/site-packages/nvidia/cu13'))}"]
    run(configure, "configuring")
    print(f"compiling (about {'twelve' if args.cuda else 'six'} minutes on two cores) ...", flush=True)
    run(["cmake", "--build", str(objects), "--parallel", str(args.jobs)], "compiling", show=True)
    check = _CHECK + _CHECK_GPU if args.cuda and runs_here else _CHECK
    said = run([str(python), "-c", check], "trying it", env={"PYTHONPATH": str(folder / "python")})
    stamp = folder / "key.new"
    stamp.write_text(key())
    os.replace(stamp, folder / "key")
    print(f"built {_near(folder / 'python')}: {said.strip().splitlines()[-1]}")
    if not runs_here:
        print("no NVIDIA GPU was found here: it was compiled, linked and imported, and not run")


_CHECK = (
    "import caffe; print('caffe', caffe.__version__, 'with', len(caffe.layer_type_list()), 'layer types')"
)
_CHECK_GPU = "; caffe.set_device(0); caffe.set_mode_gpu()"


def gpu() -> bool:
    """Whether an NVIDIA GPU is here; BuildError when it or its driver is too old for this CUDA."""
    query = "nvidia-smi --query-gpu=driver_version,compute_cap --format=csv,noheader".split()
    if not shutil.which(query[0]):
        return False
    done = subprocess.run(query, capture_output=True, text=True)
    found = re.findall(r"^(\d+)[\d.]*, *(\d+\.\d+)$", done.stdout, re.MULTILINE)
    if done.returncode or not found:
        return False
    driver, capability = int(found[0][0]), max(float(number) for _, number in found)
    if driver < LEAST_DRIVER or capability < LEAST_CAPABILITY:
        raise BuildError(
            f"NVIDIA's driver here is {driver} and the best GPU's compute capability {capability}; CUDA 13.0 needs "
            f"a driver of {LEAST_DRIVER} or newer and a GPU of {LEAST_CAPABILITY} (Turing) or newer. "
            "Install a newer driver, or build for the CPU: without --cuda."
        )
    return True


def system_packages(install: bool) -> None:
    """See that compilers and libraries are there; install those that are not if that is allowed."""
    missing = [package for package, sign in PACKAGES.items() if not _present(sign)]
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        missing.append("python3-dev")
    if missing:
        command = f"apt-get install -y --no-install-recommends {' '.join(missing)}"
        if not (install and os.geteuid() == 0 and shutil.which("apt-get")):
            raise MachineError(
                "the original needs a compiler and libraries that this machine lacks. On Debian and Ubuntu, as root:\n"
                f"  {command}\n(or run this script as root with --install). On other systems: their counterparts."
            )
        print(f"installing {' '.join(missing)} ...", flush=True)
        try:
            run(["apt-get", "update"], "apt-get update")
            run(command.split(), "apt-get install", env={"DEBIAN_FRONTEND": "noninteractive"})
        except BuildError as error:
            raise MachineError(str(error)) from error
    wanted = f"libboost_python{sys.version_info.major}{sys.version_info.minor}.so"
    libraries = [path for folder in _folders("lib") for path in folder.glob("libboost_python*.so")]
    if libraries and wanted not in [path.name for path in libraries]:
        raise MachineError(
            f"Boost's Python library here is {', '.join(sorted({path.name for path in libraries}))}, and Python is "
            f"{platform.python_version()}: both must be of one version. Run this script with that Python."
        )


def _present(sign: str) -> bool:
    if "/" not in sign and not sign.endswith(".h"):
        return shutil.which(sign) is not None
    return any((folder / sign).is_file() for folder in _folders("include"))


def _folders(kind: str) -> list[Path]:
    roots = [Path("/usr"), Path("/usr/local")]
    return [root / kind / part for root in roots for part in (f"{platform.machine()}-linux-gnu", ".")]


def unpack(folder: Path, archive: Path | None) -> Path:
    """The sources, without tests and without generated files; got by pip, checked, unpacked."""
    source, wanted = folder / "source", repr((ARCHIVE_SHA256, KEPT, REFUSED))
    stamp = source / "unpacked"
    if not (stamp.is_file() and stamp.read_text() == wanted):
        archive = archive or folder / ARCHIVE
        if not archive.is_file():
            download(archive)
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        if digest != ARCHIVE_SHA256:
            raise BuildError(
                f"{archive} has sha256 {digest}, {ARCHIVE} has {ARCHIVE_SHA256}: remove it, and run this again"
            )
        making = folder / "source.new"
        shutil.rmtree(making, ignore_errors=True)
        with tarfile.open(archive) as tar:
            for member in tar:
                inside = member.name.removeprefix("./").partition("/")[2]
                if (
                    member.isfile()
                    and inside.startswith(KEPT)
                    and not any(part in inside for part in REFUSED)
                ):
                    target = making / inside
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(tar.extractfile(member).read())
                    os.utime(target, (member.mtime, member.mtime))  # what is compiled stays newer
        (making / "unpacked").write_text(wanted)
        shutil.rmtree(source, ignore_errors=True)
        os.replace(making, source)
    return source


def download(archive: Path) -> None:
    """Let pip fetch the source distribution by name, under its hash."""
    wanted = archive.with_name("requirement.txt")
    wanted.write_text(f"{NAME}=={VERSION} --hash=sha256:{ARCHIVE_SHA256}\n")
    print(f"getting {ARCHIVE} (6 MB) with pip ...", flush=True)
    options = ["--no-deps", "--no-binary", NAME, "--require-hashes", "--disable-pip-version-check", "--quiet"]
    run(
        [sys.executable, "-m", "pip", "download", *options, "--dest", str(archive.parent), "-r", str(wanted)],
        f"getting {ARCHIVE} (or give it by hand: --from {ARCHIVE})",
    )


def environment(folder: Path, requirements: tuple[str, ...]) -> Path:
    """The interpreter of folder/venv, which holds what the original's Python side needs, and CUDA."""
    venv, wanted = folder / "venv", " ".join((sys.version, *requirements))
    python, stamp = venv / "bin/python", venv / "requirements"
    if not (stamp.is_file() and stamp.read_text() == wanted):
        also = ", with CUDA 13.0 (1.2 GB; for Linux on x86_64 and aarch64)" if CUDA in requirements else ""
        print(f"installing NumPy 1 and the rest{also} into {_near(venv)} ...", flush=True)
        shutil.rmtree(venv, ignore_errors=True)
        run([sys.executable, "-m", "venv", str(venv)], "making the environment")
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run([*pip, *requirements], f"installing the Python packages{also}")
        stamp.write_text(wanted)
    return python


def run(command: list[str], doing: str, env: dict | None = None, show: bool = False) -> str:
    """Run a command to its end and return what it printed; BuildError with its last words otherwise."""
    done = subprocess.run(
        command,
        env={**os.environ, **(env or {})},
        stdout=None if show else subprocess.PIPE,
        stderr=None if show else subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        last = [line for line in (done.stdout or "(its output stands above)").splitlines() if line.strip()][
            -12:
        ]
        raise BuildError(f"{doing} failed:\n  " + "\n  ".join(last))
    return done.stdout or ""


def _near(path: Path) -> str:
    return os.path.relpath(path)


if __name__ == "__main__":
    sys.exit(main())
