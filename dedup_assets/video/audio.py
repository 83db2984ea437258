"""The sound of a clip: packets of the source's first audio stream, or AAC made of them."""

from collections.abc import Iterator
from fractions import Fraction

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet

#: Codecs that players expect in an mp4. They are copied, as the peers do; others become AAC.
COPIED = ("aac", "mp3", "ac3", "eac3", "opus", "alac", "flac")

#: Of the AAC that is made, by the number of channels.
LAYOUTS = {1: "mono", 6: "5.1"}


class Sound:
    """Reads the audio of one video for clip after clip; times in seconds of the file's clock."""

    def __init__(self, container: InputContainer, stream: AudioStream) -> None:
        self._container, self._stream = container, stream
        self._copied = stream.codec_context.name in COPIED

    def add_stream(self, target: OutputContainer) -> AudioStream:
        """Give an output a stream for what `write` will bring; before its header is written."""
        if self._copied:
            return target.add_stream_from_template(self._stream)
        source = self._stream.codec_context
        track = target.add_stream("aac", rate=source.sample_rate)
        assert isinstance(track, AudioStream)  # what an audio encoder's name gives
        # Files of raw samples state how many channels there are, but not where they belong.
        track.codec_context.layout = LAYOUTS.get(source.layout.nb_channels, "stereo")
        return track

    def write(
        self, target: OutputContainer, track: AudioStream, begin_s: Fraction, end_s: Fraction
    ) -> None:
        """Mux what begins in [begin_s, end_s), with `begin_s` as the zero of time."""
        if self._copied:
            for packet in self._between(begin_s, end_s):
                shift = round(begin_s / packet.time_base)
                assert packet.pts is not None and packet.dts is not None  # see _between
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = track
                target.mux(packet)
            return
        for packet in self._between(begin_s, end_s):
            for frame in packet.decode():
                if frame.pts is not None and frame.time_base:
                    frame.pts -= round(begin_s / frame.time_base)
                target.mux(track.encode(frame))
        target.mux(track.encode(None))
        track.codec_context.flush_buffers()

    def _between(self, begin_s: Fraction, end_s: Fraction) -> Iterator["Packet[AudioStream]"]:
        # A second early, since some containers find packets only roughly.
        self._container.seek(max(0, int((begin_s - 1) * av.time_base)))
        for packet in self._container.demux(self._stream):
            if packet.pts is None or packet.dts is None or not packet.size:
                continue
            at = packet.pts * packet.time_base
            if at >= end_s:
                return
            if at >= begin_s:
                yield packet
