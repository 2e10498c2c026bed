"""Build the original BVLC Caffe (pycaffe, CPU) into build/bvlc/python.

python bvlc/build.py              build, or do nothing when it is built
python bvlc/build.py --install    first install the Debian packages that are missing (as root)

Afterwards `PYTHONPATH=build/bvlc/python:. build/bvlc/venv/bin/python SCRIPT` runs a script of this
project on the original. Its sources are those of brocolli-caffe 9.0.2 on the Python package index: the
C++ of BVLC Caffe master at commit 9b891540, with layer types that others added. An interrupted
build goes on where it stopped; a finished one is made again only when the recipe, the sources
or Python changed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / "build" / "bvlc"

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


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--install", action="store_true", help="install missing Debian packages (root)")
    parser.add_argument(
        "--from", dest="archive", type=Path, metavar="ARCHIVE", help=f"{ARCHIVE}, got by hand"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="compilers at a time")
    args = parser.parse_args(argv)
    try:
        if built():
            print(f"{_near(BUILD / 'python')} is built and of this recipe: nothing to do")
        else:
            build(args)
    except BuildError as error:
        print(f"bvlc/build.py: {error}", file=sys.stderr)
        return 1
    return 0


def key() -> str:
    """What the result depends on, as a hash: recipe, sources, Python, machine."""
    parts = [HERE.joinpath(name).read_bytes() for name in ("build.py", "CMakeLists.txt")]
    parts += [ARCHIVE_SHA256.encode(), sys.version.encode(), platform.machine().encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def built() -> bool:
    """True when build/bvlc/python is the finished result of the present recipe."""
    stamp = BUILD / "key"
    return stamp.is_file() and stamp.read_text() == key() and (BUILD / "python/caffe/_caffe.so").is_file()


def build(args: argparse.Namespace) -> None:
    """Do every step; each leaves its result whole or not at all, so a second run goes on."""
    BUILD.mkdir(parents=True, exist_ok=True)
    (BUILD / "key").unlink(missing_ok=True)
    system_packages(install=args.install or os.environ.get("CI") == "true")
    source = unpack(args.archive)
    python = environment()
    package = BUILD / "python" / "caffe"
    shutil.copytree(source / "python/caffe", package, dirs_exist_ok=True)
    (package / "proto").mkdir(exist_ok=True)
    (package / "proto/__init__.py").touch()
    objects = BUILD / f"objects-{sysconfig.get_config_var('SOABI')}"
    run(
        f"cmake -G Ninja -S {HERE} -B {objects} -DSOURCE={source} -DPACKAGE={package}".split()
        + [f"-DPython3_EXECUTABLE={python}", "-DPython3_FIND_VIRTUALENV=ONLY"],
        "configuring",
    )
    print("compiling (about six minutes on two cores) ...", flush=True)
    run(["cmake", "--build", str(objects), "--parallel", str(args.jobs)], "compiling", show=True)
    said = run([str(python), "-c", _CHECK], "importing", env={"PYTHONPATH": str(BUILD / "python")})
    stamp = BUILD / "key.new"
    stamp.write_text(key())
    os.replace(stamp, BUILD / "key")
    print(f"built {_near(BUILD / 'python')}: {said.strip()}")


_CHECK = (
    "import caffe; print('caffe', caffe.__version__, 'with', len(caffe.layer_type_list()), 'layer types')"
)


def system_packages(install: bool) -> None:
    """See that compilers and libraries are there; install those that are not if that is allowed."""
    missing = [package for package, sign in PACKAGES.items() if not _present(sign)]
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        missing.append("python3-dev")
    if missing:
        command = f"apt-get install -y --no-install-recommends {' '.join(missing)}"
        if not (install and os.geteuid() == 0 and shutil.which("apt-get")):
            raise BuildError(
                "the original needs a compiler and libraries that this machine lacks. On Debian and Ubuntu, as root:\n"
                f"  {command}\n(or run this script as root with --install). On other systems: their counterparts."
            )
        print(f"installing {' '.join(missing)} ...", flush=True)
        run(["apt-get", "update"], "apt-get update")
        run(command.split(), "apt-get install", env={"DEBIAN_FRONTEND": "noninteractive"})
    wanted = f"libboost_python{sys.version_info.major}{sys.version_info.minor}.so"
    libraries = [path for folder in _folders("lib") for path in folder.glob("libboost_python*.so")]
    if libraries and wanted not in [path.name for path in libraries]:
        raise BuildError(
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


def unpack(archive: Path | None) -> Path:
    """The sources, without tests and without generated files; got by pip, checked, unpacked."""
    source, wanted = BUILD / "source", repr((ARCHIVE_SHA256, KEPT, REFUSED))
    stamp = source / "unpacked"
    if not (stamp.is_file() and stamp.read_text() == wanted):
        archive = archive or BUILD / ARCHIVE
        if not archive.is_file():
            download(archive)
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        if digest != ARCHIVE_SHA256:
            raise BuildError(
                f"{archive} has sha256 {digest}, {ARCHIVE} has {ARCHIVE_SHA256}: remove it, and run this again"
            )
        making = BUILD / "source.new"
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
    wanted = BUILD / "requirement.txt"
    wanted.write_text(f"{NAME}=={VERSION} --hash=sha256:{ARCHIVE_SHA256}\n")
    print(f"getting {ARCHIVE} (6 MB) with pip ...", flush=True)
    options = ["--no-deps", "--no-binary", NAME, "--require-hashes", "--disable-pip-version-check", "--quiet"]
    run(
        [sys.executable, "-m", "pip", "download", *options, "--dest", str(archive.parent), "-r", str(wanted)],
        f"getting {ARCHIVE} (or give it by hand: --from {ARCHIVE})",
    )


def environment() -> Path:
    """The interpreter of build/bvlc/venv, which holds what the original's Python side needs."""
    venv, wanted = BUILD / "venv", " ".join((sys.version, *REQUIREMENTS))
    python, stamp = venv / "bin/python", venv / "requirements"
    if not (stamp.is_file() and stamp.read_text() == wanted):
        print(f"installing NumPy 1 and the rest into {_near(venv)} ...", flush=True)
        shutil.rmtree(venv, ignore_errors=True)
        run([sys.executable, "-m", "venv", str(venv)], "making the environment")
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run([*pip, *REQUIREMENTS], "installing the Python packages")
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
