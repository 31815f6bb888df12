"""Find the ffmpeg binary: the system's if there is one, else that of imageio-ffmpeg."""

import shutil
import subprocess
from functools import cache

from m2hf.errors import ResourceError


@cache
def ffmpeg_exe() -> str:
    """Path of the ffmpeg binary.

    Raises ResourceError where neither the system nor the imageio-ffmpeg wheel has one.
    """
    system = shutil.which("ffmpeg")
    if system is not None:
        return system
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        raise ResourceError(
            "ffmpeg: no binary on PATH and none in the imageio-ffmpeg package; "
            "install either (pip install imageio-ffmpeg)"
        ) from error


@cache
def ffmpeg_version() -> str:
    """The version that the binary prints, such as `7.0.2-static`."""
    out = subprocess.run(
        [ffmpeg_exe(), "-hide_banner", "-version"], capture_output=True, text=True, check=True
    )
    return out.stdout.split()[2]


@cache
def has_filter(name: str) -> bool:
    """Whether the binary was built with a filter."""
    out = subprocess.run(
        [ffmpeg_exe(), "-hide_banner", "-filters"], capture_output=True, text=True, check=True
    )
    return any(line.split()[1:2] == [name] for line in out.stdout.splitlines())
