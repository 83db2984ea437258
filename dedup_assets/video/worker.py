"""The child process that `apart` starts: takes videos to split from stdin, answers on stdout.

A message is a pickle behind its length, 8 bytes. To the worker: (path, folder, cutting). From it:
None now and then while it decodes, last a SplitVideo or the text of an error.
"""

import os
import pickle
import resource
import struct
import sys
import time
from typing import IO, Any

LENGTH = struct.Struct("<Q")
#: Seconds between two signs of progress.
PAUSE_S = 0.2


def send(pipe: IO[bytes], message: Any) -> None:
    data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    pipe.write(LENGTH.pack(len(data)))
    pipe.write(data)
    pipe.flush()


def main(memory: int | None) -> None:
    """Answer until stdin ends.

    `memory`: bytes of address space that this process may have, None for no limit.
    """
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    if memory is not None and (most == resource.RLIM_INFINITY or memory < most):
        resource.setrlimit(resource.RLIMIT_AS, (memory, most))
    # Libraries that print must not print into the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while head := sys.stdin.buffer.read(LENGTH.size):
        request = sys.stdin.buffer.read(LENGTH.unpack(head)[0])
        send(answers, _answer(request, answers))


def _answer(request: bytes, answers: IO[bytes]) -> Any:
    from dedup_assets.video.cut import split_video
    from dedup_assets.video.errors import ClipError

    last = time.monotonic()

    def on_frame() -> None:
        nonlocal last
        if time.monotonic() - last > PAUSE_S:
            send(answers, None)
            last = time.monotonic()

    path, folder, cutting = pickle.loads(request)
    try:
        return split_video(path, folder, cutting, on_frame=on_frame)
    except ClipError as error:
        return str(error)
    except BrokenPipeError:
        raise  # the caller is gone
    except Exception as error:
        # Whatever a strange file makes a library raise is that file's failure alone.
        return f"{path}: cannot be split: {type(error).__name__}: {error}"
