"""Extensions of media files, by the container (ffmpeg demuxer) that reads them.

The one list of what `m2hf manifest` finds below a folder; the decoder opens these containers
(`extract/media/source.py`). An extension is lower-case and has its dot. Those that other
kinds of files have more often (.dat, .bin) are not among them.
"""

# A container with a space-separated list of extensions; one may be in several containers.
_VIDEO = {
    "mov": ".mov .qt",
    "mp4": ".mp4 .mp4v .f4v .ismv .insv",
    "m4v": ".m4v",
    "3gp": ".3gp .3gpp",
    "3g2": ".3g2 .3gpp2",
    "mj2": ".mj2 .mjp2",
    "matroska": ".mkv .mk3d",
    "webm": ".webm",
    "avi": ".avi .divx",
    "mpeg": ".mpg .mpeg .mpe .m2p .mod .evo",
    "vob": ".vob",
    "mpegts": ".ts .mts .m2ts .m2t .tp .trp .tod",
    "mpegvideo": ".m1v .m2v .mpv",
    "flv": ".flv .f4v",
    "asf": ".asf .wmv .wm .dvr-ms",
    "ogg": ".ogv .ogm .ogx",
    "rm": ".rm .rmvb",
    "gif": ".gif",
    "h264": ".h264 .264 .avc",
    "hevc": ".hevc .h265 .265",
    "dv": ".dv .dif",
    "nut": ".nut",
    "ivf": ".ivf",
    "mxf": ".mxf",
    "wtv": ".wtv",
    "swf": ".swf",
}
_AUDIO = {
    "m4a": ".m4a .m4b .m4r",
    "matroska": ".mka",
    "webm": ".weba",
    "asf": ".wma",
    "ogg": ".ogg .oga .opus .spx",
    "wav": ".wav .wave .bwf .rf64",
    "w64": ".w64",
    "mp3": ".mp3 .mp2 .mpa .mpga",
    "flac": ".flac",
    "aac": ".aac .adts",
    "ac3": ".ac3",
    "rm": ".ra",
    "amr": ".amr",
    "aiff": ".aiff .aif .aifc",
    "au": ".au .snd",
    "caf": ".caf",
}


def _extensions(table: dict[str, str]) -> frozenset[str]:
    return frozenset(extension for listed in table.values() for extension in listed.split())


CONTAINERS = frozenset(_VIDEO) | frozenset(_AUDIO)
VIDEO_EXTENSIONS = _extensions(_VIDEO)
AUDIO_EXTENSIONS = _extensions(_AUDIO)
MEDIA_EXTENSIONS = VIDEO_EXTENSIONS | AUDIO_EXTENSIONS
