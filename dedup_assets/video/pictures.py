"""Decoded frames made fit for an encoder: upright, of one even size, 8 bits in 4:2:0."""

from av.error import FFmpegError
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation

from dedup_assets.video.errors import ClipError

#: Quarter turns, counterclockwise, as FFmpeg's filters do them.
TURNS = {0: (), 1: ("transpose=cclock",), 2: ("hflip", "vflip"), 3: ("transpose=clock",)}


class Upright:
    """Makes the frames of one video upright and equally large.

    The rotation that the file asks of a player is done; an odd side loses its last row or column,
    since 4:2:0 halves both sides. A frame of another size than the first, as in streams that
    change, is scaled to it.
    """

    def __init__(self) -> None:
        self.size: tuple[int, int] | None = None
        """Width and height of what comes out, known after the first frame."""
        self._graph: Graph | None = None
        self._built_for: tuple[int, ...] = ()

    def __call__(self, frame: VideoFrame) -> VideoFrame:
        """The picture of a frame; its time stamps are to be taken from `frame`."""
        turns = round(frame.rotation / 90) % 4
        if frame.format.name != "yuv420p":
            frame = frame.reformat(format="yuv420p")
        if turns or frame.width % 2 or frame.height % 2:
            frame = self._turned(frame, turns)
        if self.size is None:
            self.size = frame.width, frame.height
        elif (frame.width, frame.height) != self.size:
            frame = frame.reformat(*self.size, interpolation=Interpolation.AREA)
        return frame

    def _turned(self, frame: VideoFrame, turns: int) -> VideoFrame:
        key = (frame.width, frame.height, turns)
        if self._graph is None or self._built_for != key:
            self._graph, self._built_for = _graph(frame, turns), key
        self._graph.vpush(frame)
        return self._graph.vpull()


def _graph(frame: VideoFrame, turns: int) -> Graph:
    width, height = frame.width // 2 * 2, frame.height // 2 * 2
    if not width or not height:
        raise ClipError(f"frames of {frame.width}x{frame.height} pixels are too small to encode")
    graph = Graph()
    nodes = [
        graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
        ),
        graph.add("crop", f"{width}:{height}:0:0"),
    ]
    for turn in TURNS[turns]:
        name, _, argument = turn.partition("=")
        nodes.append(graph.add(name, argument or None))
    nodes.append(graph.add("buffersink"))
    graph.link_nodes(*nodes)
    try:
        graph.configure()
    except FFmpegError as error:
        raise ClipError(f"frames cannot be turned upright: {error.strerror}") from error
    return graph
