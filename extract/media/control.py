"""A control for failed decodes: whether ffmpeg works at all on this machine at the moment.

Where memory or threads run out, ffmpeg fails at any clip, with messages that a damaged file may
cause as well ("Cannot allocate memory"). So the same work is done on a frame that is known.
"""

import subprocess

from m2hf.errors import ResourceError
from m2hf.ffmpeg import ffmpeg_exe

# More than a usual clip takes: where that can't be had, no failure is certainly the clip's own.
_WIDTH, _HEIGHT = 1920, 1080
_SPARE_OUTPUTS = 8
_TIMEOUT_S = 60.0


def check_ffmpeg(outputs: int) -> None:
    """Scale one grey frame by ffmpeg, to a few more outputs than a decode had.

    Raises ResourceError where that fails.
    """
    command = [ffmpeg_exe(), "-hide_banner", "-loglevel", "error", "-threads", "1"]
    size = f"{_WIDTH}x{_HEIGHT}"
    command += ["-f", "rawvideo", "-pixel_format", "yuv420p", "-video_size", size, "-i", "pipe:0"]
    names = [f"[v{n}]" for n in range(outputs + _SPARE_OUTPUTS)]
    scaled = f"scale={_WIDTH // 2}:{_HEIGHT // 2},format=rgb24,split={len(names)}{''.join(names)}"
    command += ["-filter_complex", scaled]
    for name in names:
        command += ["-map", name, "-c:v", "rawvideo", "-f", "null", "-"]
    frame = bytes([128]) * (_WIDTH * _HEIGHT * 3 // 2)
    try:
        done = subprocess.run(command, input=frame, capture_output=True, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise _fails(f"no answer in {_TIMEOUT_S:g} s") from error
    if done.returncode:
        log = done.stderr.decode("utf-8", errors="replace").splitlines()
        raise _fails(log[0].strip() if log else f"exit code {done.returncode}")


def _fails(reason: str) -> ResourceError:
    return ResourceError(
        f"ffmpeg fails on a plain frame, too, so no clip is to blame: {reason}; use fewer workers, "
        "or raise the limits on memory and processes (ulimit -v, ulimit -u)"
    )
