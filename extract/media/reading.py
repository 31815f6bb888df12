"""How a clip is read: which streams, from where in the file, and again where a run fails."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from m2hf.errors import MediaError
from m2hf.extract.media.absent import Absent
from m2hf.extract.media.framecrc import TimedStream
from m2hf.extract.media.frames import Frames, assemble
from m2hf.extract.media.outputs import EDGE_S, Span
from m2hf.extract.media.probe import Probe, Stream, StreamKind, choose
from m2hf.extract.media.sound import Sound, cancels_out, nearly_silent
from m2hf.extract.media.source import Decoded, MediaSource, Wanted
from m2hf.extract.media.views import FrameView, MediaLimits

SLACK_S = 1.0  # streams of an intact file may end at different times, but not this far apart
_NEAR_START_S = 10.0  # a part that begins earlier is read from the start of the file
_PREROLL_S = 2.0  # read before a part, so that decoders of sound have settled
_LEAD_S = 1.0  # before a part, where most videos have the frame that is on the screen
_BEYOND_S = 2.0  # read beyond a part, since streams are interleaved


@dataclass(frozen=True)
class Part:
    """A part of a file, in seconds from its first time stamp."""

    start_s: float = 0.0
    end_s: float | None = None

    @property
    def length_s(self) -> float | None:
        return None if self.end_s is None else self.end_s - self.start_s

    @property
    def whole(self) -> bool:
        return self.start_s == 0.0 and self.end_s is None


@dataclass(frozen=True, eq=False)
class ReadClip:
    """The streams of a clip, each of which may be absent or damaged, and how long it is."""

    duration_s: float
    frames: Mapping[FrameView, Frames] | Absent | MediaError
    sounds: Mapping[int, Sound] | Absent | MediaError
    video_remark: str


class ClipReader:
    """Reads one clip from a file."""

    def __init__(
        self,
        path: Path,
        views: tuple[FrameView, ...],
        rates: tuple[int, ...],
        limits: MediaLimits,
        part: Part,
    ) -> None:
        self._source = MediaSource(path, limits)
        self._views, self._rates = views, rates
        self._limits = limits
        self._part = part

    def read(self) -> ReadClip:
        """Raises MediaError where the file is no media, is over a limit, or ends before the part;
        ResourceError where memory or disk space run out."""
        longest_s, length_s = self._limits.max_duration_s, self._part.length_s
        if length_s is not None and length_s > longest_s:
            raise MediaError(f"longer than the limit of {longest_s:g} s")
        probe = self._source.probe()
        video, audio = choose(probe, StreamKind.VIDEO), choose(probe, StreamKind.AUDIO)
        if video is None and audio is None:
            raise MediaError(f"no video and no audio stream; {probe.problem}")
        wanted = self._wanted(
            probe,
            None if video is None else video.stream,
            None if audio is None else audio.stream,
        )
        if length_s is None and (probe.duration_s or 0.0) > longest_s:
            self._source.decode(wanted.only_times(), Span())  # if it is so long, known much faster
        seen = heard = self._decode(wanted, probe)
        if seen.code != 0 and wanted.views and wanted.rates:  # one may prevent the other
            seen = self._decode(wanted.only_video(), probe)
            heard = self._decode(wanted.only_audio(), probe)
        packets = self._all_packets(wanted, seen, probe)
        frames = self._frames(wanted, seen, packets)
        sounds = self._sounds(wanted, heard, packets, probe, "" if audio is None else audio.remark)
        duration_s = self._duration_s(packets, probe) or _reached_s(frames, sounds)
        return ReadClip(duration_s, frames, sounds, "" if video is None else video.remark)

    def _wanted(self, probe: Probe, video: Stream | None, audio: Stream | None) -> Wanted:
        subtitles = [s for s in probe.of_kind(StreamKind.SUBTITLE) if s.decodable]
        timed = tuple(s for s in (video, audio, *subtitles) if s is not None and not s.problem)
        if not timed:
            raise MediaError(f"no stream can be decoded; {probe.streams[0].problem}")
        views = self._views if video is not None and video.decodable else ()
        rates = self._rates if audio is not None and audio.decodable else ()
        return Wanted(video, views, audio, rates, timed)

    def _decode(self, wanted: Wanted, probe: Probe) -> Decoded:
        """Decode from shortly before the part, and from the start of the file where that was not
        early enough."""
        part = self._part
        thorough = Span(part.start_s, part.end_s)
        if part.end_s is not None:
            thorough = replace(thorough, read_to_s=part.end_s + _BEYOND_S)
        span = self._quick_span(thorough, probe)
        decoded = self._source.decode(wanted, span)
        if span != thorough and _begins_late(wanted, decoded, span):
            decoded = self._source.decode(wanted, thorough)
        return decoded

    def _quick_span(self, thorough: Span, probe: Probe) -> Span:
        if thorough.start_s == 0:
            return thorough
        if thorough.start_s <= _NEAR_START_S or not probe.has_index:
            return replace(thorough, lead_s=_LEAD_S)
        return replace(thorough, seek_s=thorough.start_s - _PREROLL_S)

    def _all_packets(
        self, wanted: Wanted, decoded: Decoded, probe: Probe
    ) -> Mapping[Stream, TimedStream]:
        """The packets by stream; also where ffmpeg refused to decode, and also those beyond the
        part where the video seems to end in it: its last frame may stay until a later one."""
        length_s, video = self._part.length_s, wanted.video
        ends_s = [times.end_s for times in decoded.packets.values()]
        refused = decoded.code != 0 and not any(end_s is not None for end_s in ends_s)
        video_end_s = decoded.packets[video].end_s if video in decoded.packets else None
        ends_within = length_s is not None and (video_end_s or 0.0) < length_s - EDGE_S
        if not refused and (video not in decoded.packets or not ends_within):
            return decoded.packets
        span = self._quick_span(Span(self._part.start_s, self._part.end_s), probe)
        return self._source.decode(wanted.only_times(), span).packets

    def _duration_s(self, packets: Mapping[Stream, TimedStream], probe: Probe) -> float:
        start_s, length_s = self._part.start_s, self._part.length_s
        ends_s = {
            stream: times.end_s for stream, times in packets.items() if times.end_s is not None
        }
        reached_s = max(
            (end_s for stream, end_s in ends_s.items() if stream.kind is not StreamKind.SUBTITLE),
            default=0.0,
        )
        if start_s > 0 and reached_s <= 0:
            raise MediaError(
                f"start {start_s:g} s is after the end of the file ({start_s + reached_s:.1f} s)"
            )
        # A file that breaks off ends before the time that it states. Depending on the container,
        # that is from time 0 or from the first time stamp, and includes subtitles.
        last_s = max(ends_s.values(), default=0.0) + start_s + max(0.0, probe.start_s)
        stated_s = probe.stated_duration_s
        if stated_s is not None and last_s + SLACK_S < stated_s:
            reached_s = stated_s - start_s
        return reached_s if length_s is None else min(reached_s, length_s)

    def _frames(
        self, wanted: Wanted, decoded: Decoded, packets: Mapping[Stream, TimedStream]
    ) -> Mapping[FrameView, Frames] | Absent | MediaError:
        if wanted.video is None:
            return Absent("no video stream")
        if decoded.code != 0 or wanted.video.problem:
            # Of an output that ffmpeg didn't finish, what there is may end anywhere.
            return self._nothing(wanted.video, "frame", packets, decoded)
        times = packets[wanted.video]
        try:
            found = {
                view: assemble(view, pixels, times, self._part.length_s)
                for view, pixels in decoded.frames.items()
            }
        except MediaError as error:
            return error
        frames = {view: f for view, f in found.items() if f is not None}
        if self._views and len(frames) < len(self._views):
            return self._nothing(wanted.video, "frame", packets, decoded)
        return frames

    def _sounds(
        self,
        wanted: Wanted,
        decoded: Decoded,
        packets: Mapping[Stream, TimedStream],
        probe: Probe,
        remark: str,
    ) -> Mapping[int, Sound] | Absent | MediaError:
        if wanted.audio is None:
            return Absent("no audio stream")
        if decoded.sound_error is not None:
            return decoded.sound_error
        found = decoded.samples if decoded.code == 0 else {}
        if self._rates and not (found and all(len(samples) for samples in found.values())):
            return self._nothing(wanted.audio, "sound", packets, decoded)
        sounds = {rate: Sound(samples, rate, remark) for rate, samples in found.items()}
        if wanted.audio.mono or not any(nearly_silent(samples) for samples in found.values()):
            return sounds
        left = self._decode(wanted.only_audio(left=True), probe)
        why = "the channels cancel each other out, so the first one was read"
        for rate, channel in left.samples.items() if left.code == 0 else ():
            if nearly_silent(found[rate]) and cancels_out(found[rate], channel):
                sounds[rate] = Sound(channel, rate, "; ".join(filter(None, [remark, why])))
        return sounds

    def _nothing(
        self, stream: Stream, what: str, packets: Mapping[Stream, TimedStream], decoded: Decoded
    ) -> Absent | MediaError:
        """Why a stream gave nothing: there is nothing in it, or it can't be decoded."""
        name = stream.kind.label
        if not stream.problem and not packets[stream].any_within(self._part.length_s):
            return Absent(f"the {name} is empty" if self._part.whole else f"no {what} in this part")
        why = stream.problem or decoded.problem or "it is damaged"
        if not stream.problem and not stream.decodable:
            why = "ffmpeg has no decoder for it"
        return MediaError(f"the {name} can't be decoded; {why}")


def _reached_s(frames: object, sounds: object) -> float:
    """The end of what was decoded, of a file whose packets have no times."""
    ends_s = [0.0]
    if isinstance(frames, Mapping):
        ends_s += [float(view.end_s[-1]) for view in frames.values()]
    if isinstance(sounds, Mapping):
        ends_s += [sound.duration_s for sound in sounds.values()]
    return max(ends_s)


def _begins_late(wanted: Wanted, decoded: Decoded, span: Span) -> bool:
    """Whether a stream may have something before what was read of it."""
    first_frames = [p.times.seconds(p.times.pts[0]) for p in decoded.frames.values() if p.times.pts]
    if len(first_frames) < len(wanted.views) or any(t > EDGE_S for t in first_frames):
        return True
    if span.seek_s == 0 or not wanted.rates or wanted.audio is None:
        return False
    packets = decoded.packets[wanted.audio]
    return not packets.pts or packets.seconds(packets.pts[0]) > EDGE_S
