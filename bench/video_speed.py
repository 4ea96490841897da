"""Random clips of 16 frames from MP4 (h264, a keyframe every 16 frames): frames per CPU-second of each way to read.

    python bench/video_speed.py                     # 224 pixels; --size 64, --gop 2, 250, ...

`ours av` and `ours torchcodec` are `innerworld.data.video.Video`; `raw torchcodec` is its own decoder, one kept open
for each file; `naive av` seeks and converts each frame with `to_ndarray`, as most examples do. All run in one process,
take the same clips, and take turns, so that what else the machine does hits them alike.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from innerworld.data.video import Video, VideoWriter, backend

Read = Callable[[Path, np.ndarray], np.ndarray]


def scene(t: int, size: int, seed: int) -> np.ndarray:
    """A texture that moves before another, with the noise of a sensor: `t y x c`."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (2, size // 8 + 8, size // 8 + 8, 3)).astype(np.uint8)
    back, front = (np.kron(each, np.ones((8, 8, 1), np.uint8)) for each in coarse)
    path = np.cumsum(rng.integers(-2, 3, (t, 2)), 0) % 60
    frames = np.empty((t, size, size, 3), np.uint8)
    for i, (y, x) in enumerate(path):
        frame = back[:size, :size].astype(np.int16)
        frame[size // 4 : size // 2, size // 4 : size // 2] = front[y : y + size // 4, x : x + size // 4]
        frame = np.roll(frame, (y, x), (0, 1)) + rng.integers(-4, 5, frame.shape)
        frames[i] = frame.clip(0, 255)
    return frames


def readers() -> dict[str, Read]:
    found: dict[str, Read] = {"ours av": ours("av"), "naive av": naive_av}
    if backend().name == "torchcodec":
        found |= {"ours torchcodec": ours("torchcodec"), "raw torchcodec": raw_torchcodec()}
    return found


def ours(name: str) -> Read:
    videos: dict[Path, Video] = {}

    def read(path: Path, numbers: np.ndarray) -> np.ndarray:
        if path not in videos:
            videos[path] = Video(path, name)
        return videos[path].frames(numbers)

    return read


def raw_torchcodec() -> Read:
    from torchcodec.decoders import VideoDecoder  # pyright: ignore[reportPrivateImportUsage]

    decoders: dict[Path, VideoDecoder] = {}

    def read(path: Path, numbers: np.ndarray) -> np.ndarray:
        if path not in decoders:
            decoders[path] = VideoDecoder(path, dimension_order="NHWC")
        return decoders[path].get_frames_at(numbers.tolist()).data.numpy()

    return read


def naive_av(path: Path, numbers: np.ndarray) -> np.ndarray:
    import av

    frames = {}
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.average_rate is not None and stream.time_base is not None
        tick = 1 / stream.average_rate / stream.time_base
        container.seek(int(numbers[0] * tick), stream=stream)
        for frame in container.decode(stream):
            assert frame.pts is not None
            number = round(frame.pts / tick)
            frames[number] = frame.to_ndarray(format="rgb24")
            if number >= numbers[-1]:
                break
    return np.stack([frames[number] for number in numbers.tolist()])


def measure(files: list[Path], length: int, clips: int, rounds: int, frames: int) -> dict[str, list[float]]:
    """Frames per CPU-second of each reader, one number a round."""
    speeds: dict[str, list[float]] = {}
    ways = readers()
    for number in range(-1, rounds):  # the first round opens everything and is not counted
        rng = np.random.default_rng(max(number, 0))
        plan = [(files[rng.integers(len(files))], int(rng.integers(length - frames))) for _ in range(clips)]
        plan = plan if number >= 0 else [(file, 0) for file in files]
        for name, read in list(ways.items())[:: 1 if number % 2 else -1]:
            start = time.process_time()
            for file, first in plan:
                assert len(read(file, np.arange(first, first + frames))) == frames
            if number >= 0:
                speeds.setdefault(name, []).append(clips * frames / (time.process_time() - start))
    return speeds


def main() -> None:
    parser = argparse.ArgumentParser(description="random clips from MP4: frames per CPU-second")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--gop", type=int, default=16)
    parser.add_argument("--files", type=int, default=16)
    parser.add_argument("--length", type=int, default=250, help="frames of a file")
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"backend: {backend().name} {backend().version}: {backend().why}")
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{i}.mp4" for i in range(args.files)]
        for i, file in enumerate(files):
            with VideoWriter(file, 30, gop=args.gop, quality=23) as writer:
                for frame in scene(args.length, args.size, i):
                    writer.add(frame)
        size = sum(file.stat().st_size for file in files) / args.files / args.length
        print(f"{args.size} pixels, g={args.gop}, {size:.0f} B/frame")
        for name, speeds in sorted(measure(files, args.length, args.clips, args.rounds, 16).items()):
            low, middle, high = np.quantile(speeds, [0, 0.5, 1])
            print(f"{name:16} {middle:8.0f} frames per CPU-second (rounds: {low:.0f} to {high:.0f})")


if __name__ == "__main__":
    main()
