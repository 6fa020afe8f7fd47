"""Python as on Windows, as far as Linux can tell: what only POSIX has is missing.

`python -m tests.without_posix MODULE ARGUMENTS` imports every module of the package, and runs the
module as `python -m MODULE ARGUMENTS` would. Other packages are imported before, since they ask for
the name of the system and not for each function. `os.replace` refuses a file that is open, as
Windows does, and files of reserved names are refused.
"""

import importlib
import os
import pkgutil
import runpy
import select
import signal
import sys
from pathlib import Path

OTHERS = ("filelock", "matplotlib.pyplot", "pyro", "sklearn.datasets", "sklearn.neighbors")
for _module in (*OTHERS, "torch", "torch.distributed", "torchvision"):
    importlib.import_module(_module)
for _module in ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog"):
    sys.modules[_module] = None
KEPT = {"SIGINT", "SIGTERM", "SIGABRT", "SIGFPE", "SIGILL", "SIGSEGV"}  # what Windows has
for _name in [name for name in vars(signal) if name.startswith("SIG") and name.isupper()]:
    if _name not in KEPT and not _name.startswith("SIG_"):
        delattr(signal, _name)
for _name in ("alarm", "pause", "setitimer", "sigwait", "pthread_kill", "siginterrupt"):
    delattr(signal, _name)
del select.poll, select.epoll
for _name in (
    "fork", "forkpty", "getuid", "geteuid", "getgid", "getppid", "setsid", "killpg", "uname",
    "sched_getaffinity", "sched_setaffinity", "getloadavg", "nice", "sysconf", "statvfs", "chown",
    "mkfifo", "wait", "O_DIRECTORY", "O_SYNC",
):  # fmt: skip
    if hasattr(os, _name):
        delattr(os, _name)
_replace = os.replace
names: set[str] = set()  # of the files that were written


def replace(source: object, target: object) -> None:
    """Refuse, as Windows does, a file that this process has open, and a name that it has not."""
    target = os.path.abspath(os.fspath(target))
    held = {os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")}
    if {target, os.path.abspath(os.fspath(source))} & held:
        raise PermissionError(13, "The process cannot access the file", target)
    if set(os.path.basename(target)) & set('<>:"\\|?*') or target[-1] in ". ":
        raise OSError(22, "Invalid argument", target)
    if target.lower() in {name.lower() for name in names - {target}}:
        raise OSError(17, "two names that differ in case alone", target)
    names.add(target)
    _replace(source, target)


def refuse_links(*_: object, **__: object) -> None:
    """Raise the error of a user who may make no symbolic links."""
    raise OSError(1314, "A required privilege is not held by the client")


os.replace, os.symlink = replace, refuse_links

if __name__ == "__main__":
    for package in ("pyro_vae", "experiments"):
        path = [str(Path(__file__).parents[1] / package)]
        for module in pkgutil.walk_packages(path, f"{package}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    sys.argv = sys.argv[1:]
    if sys.argv:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
