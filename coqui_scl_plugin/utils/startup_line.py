"""The line that Python runs at its start, once `coqui-scl enable` has written it: Coqui then finds `scl_vits`.

Python runs each line of a `.pth` file in site-packages that begins with `import`.
"""

import site
import sys
import sysconfig
from pathlib import Path

from coqui_scl_plugin.errors import SclError
from coqui_scl_plugin.utils.atomic import replacing
from coqui_scl_plugin.utils.shown import shorten

FILE = "coqui_scl_plugin-enable.pth"
LINE = (
    "import sys; any(type(one).__name__ == 'CoquiSclPluginStart' for one in sys.meta_path) or "
    "sys.meta_path.append(type('CoquiSclPluginStart', (), {'find_spec': staticmethod("
    "lambda name, path=None, target=None: None if name not in "
    "('TTS.tts.models.scl_vits', 'TTS.tts.configs.scl_vits_config') "
    "or not __import__('importlib.util').util.find_spec('coqui_scl_plugin') "
    "else __import__('coqui_scl_plugin') and None)})())\n"
)
"""Adds a finder that imports nothing until Coqui looks for `scl_vits`.

It finds no module itself: importing the package adds its own finder behind this one, which Python asks next. Without
the package, nothing happens, and Coqui says that it knows no such model. Python runs the line twice in a virtual
environment.
"""


def in_virtual_environment() -> bool:
    """Tell whether the interpreter belongs to a virtual environment."""
    return sys.prefix != sys.base_prefix


def folders() -> list[Path]:
    """Return the folders of this interpreter whose `.pth` files it reads at its start, the active environment's first.

    Where the package itself is among the user's packages, outside of a virtual environment, the user's folder is first.
    """
    own, user = Path(sysconfig.get_path("purelib")), Path(site.getusersitepackages())
    if not site.ENABLE_USER_SITE:
        return [own]
    return [user, own] if Path(__file__).is_relative_to(user) else [own, user]


def enable() -> tuple[Path, bool]:
    """Write the line; return its file, and whether that changed anything.

    Raises:
        SclError: the folder cannot be written.
    """
    file = folders()[0] / FILE
    if file.is_file() and file.read_bytes() == LINE.encode():
        return file, False
    try:
        with replacing(file) as temporary:
            temporary.write_text(LINE, encoding="utf-8")
    except OSError as error:
        raise SclError(
            f"{shorten(file)} cannot be written: {error.strerror}. Use a virtual environment that you can write to; "
            "or start Coqui by coqui-scl train and coqui-scl run, which need no such file."
        ) from error
    return file, True


def disable() -> list[Path]:
    """Remove the line wherever it is; return the files that were removed.

    Raises:
        SclError: one of them cannot be removed.
    """
    removed = []
    for file in (folder / FILE for folder in folders()):
        try:
            file.unlink()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise SclError(f"{shorten(file)} cannot be removed: {error.strerror}. Remove it by hand.") from error
        removed.append(file)
    return removed
