"""Splitting in child processes: what crashes, hangs or eats memory there stays there."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from dedup_assets.video.apart import Splitter
from dedup_assets.video.cut import Cutting, split_video
from dedup_assets.video.errors import ClipError
from dedup_assets.video.sampling import Sampling
from dedup_assets.video.spans import FixedStride
from dedup_assets_tests.video.movies import regular

STRIDE = FixedStride(1, None, 0.3)


def crash(frames: np.ndarray) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def hang(frames: np.ndarray) -> None:
    time.sleep(60)


def eat(frames: np.ndarray) -> None:
    np.ones(1 << 40, np.uint8)


def leave(frames: np.ndarray) -> None:
    os._exit(3)


def pid(frames: np.ndarray) -> np.ndarray:
    os.write(1, b"a library that prints")
    return np.array(os.getpid())


def slow_pid(frames: np.ndarray) -> np.ndarray:
    time.sleep(0.5)
    return np.array(os.getpid())


def large(frames: np.ndarray) -> np.ndarray:
    return np.zeros(1 << 17, np.uint8)


def _cutting(prepare: object) -> Cutting:
    return Cutting(STRIDE, sampling=Sampling(2), prepare=prepare)  # type: ignore[arg-type]


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return regular(tmp_path / "a.mp4", 75)


def test_result_is_that_of_this_process(video: Path, tmp_path: Path):
    here = split_video(video, tmp_path / "clips", Cutting(STRIDE))
    content = [clip.file.read_bytes() for clip in here.clips]
    with Splitter(1, timeout_s=60) as splitter:
        assert splitter.split(video, tmp_path / "clips", Cutting(STRIDE)) == here
    assert [clip.file.read_bytes() for clip in here.clips] == content


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (crash, r"a\.mp4: the decoder crashed \(signal 11, Segmentation fault\)"),
        (hang, r"a\.mp4: the decoder made no progress for 2 s"),
        (eat, r"a\.mp4: cannot be (split|decoded): "),
        (leave, r"a\.mp4: the decoder ended \(status 3\)"),
    ],
)
def test_what_a_file_does_to_the_decoder_is_an_error_of_that_file(
    video: Path, tmp_path: Path, prepare: object, message: str
):
    with Splitter(1, timeout_s=2 if prepare is hang else 60) as splitter:
        with pytest.raises(ClipError, match=message) as caught:
            splitter.split(video, tmp_path / "clips", _cutting(prepare))
        assert "\n" not in str(caught.value)
        assert list((tmp_path / "clips").iterdir()) == []
        after = splitter.split(video, tmp_path / "clips", _cutting(None))
    assert len(after.clips) == 3


def test_workers_are_used_again_and_shared_by_threads(video: Path, tmp_path: Path):
    with Splitter(2, timeout_s=60) as splitter, ThreadPoolExecutor(4) as threads:
        results = list(
            threads.map(lambda k: splitter.split(video, tmp_path / str(k), _cutting(pid)), range(8))
        )
    pids = {int(clip.prepared) for split in results for clip in split.clips}
    assert len(pids) in (1, 2)
    assert os.getpid() not in pids
    for worker in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)


def test_a_worker_ends_that_was_at_work_when_it_was_closed(video: Path, tmp_path: Path):
    splitter = Splitter(1, timeout_s=60)
    with ThreadPoolExecutor(1) as threads:
        split = threads.submit(splitter.split, video, tmp_path / "clips", _cutting(slow_pid))
        while not (tmp_path / "clips").exists():
            time.sleep(0.01)
        splitter.close()
    worker = int(split.result().clips[0].prepared)
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


def test_error_of_a_file_keeps_the_worker(video: Path, tmp_path: Path):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"not a video" * 100)
    with Splitter(1, timeout_s=60) as splitter:
        first = splitter.split(video, tmp_path / "one", _cutting(pid))
        with pytest.raises(ClipError, match=r"bad\.mp4: cannot be decoded"):
            splitter.split(bad, tmp_path / "bad", _cutting(pid))
        second = splitter.split(video, tmp_path / "two", _cutting(pid))
    assert first.clips[0].prepared == second.clips[0].prepared


def test_noise_of_libraries_is_not_printed(
    video: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    with Splitter(1, timeout_s=60) as splitter:
        splitter.split(video, tmp_path / "clips", _cutting(pid))
    assert capfd.readouterr() == ("", "")


def test_threads_decode_side_by_side(video: Path, tmp_path: Path):
    """PyAV 17.0.1 could hang here: its log callback waited for the lock that a decoder held."""
    import av.logging

    level = av.logging.get_level()
    av.logging.set_level(av.logging.DEBUG)
    try:
        threads = [
            threading.Thread(
                target=split_video,
                args=(video, tmp_path / str(k), Cutting(STRIDE, threads=2)),
                daemon=True,
            )
            for k in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
    finally:
        av.logging.set_level(level)
    assert all(len(list((tmp_path / str(k)).iterdir())) == 3 for k in range(4))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_clips(tmp_path: Path):
    """Of 2,000 clips one encoder, of 1.5 MB, and what is prepared of one may be held at a time."""
    path = regular(tmp_path / "a.mp4", 12_000)
    cutting = Cutting(FixedStride(0.2, None, 0.1), sampling=Sampling(2), prepare=large)
    with Splitter(1, timeout_s=60, memory=300 << 20) as splitter:
        split = splitter.split(path, tmp_path / "clips", cutting)
    assert [clip.frames for clip in split.clips] == [6] * 2000
    assert {clip.prepared.shape for clip in split.clips} == {(1 << 17,)}


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="count=0 should be >= 1"):
        Splitter(0)
    with pytest.raises(ValueError, match="timeout_s=0 should be > 0"):
        Splitter(1, timeout_s=0)
