"""What V-JEPA 2's pretraining (arXiv 2506.09985) would take: storage, decoding, arithmetic, network. Nothing is run.

python bench/vjepa2_at_scale.py [--gpus 64]

Every number above the line is a fact of the paper or its public code; every number below it is an assumption to change.
"""

from __future__ import annotations

import argparse

HOURS = 1e6  # of video: "over 1 million hours" (abstract); 22 million samples, VideoMix22M
BATCH, STEPS, LAST_STEPS = 3072, 240_000, 12_000  # warm-up and constant rate; then the cool-down (table 9)
FRAMES, FPS, SIDE = 16, 4, 256  # of a clip
LAST_FRAMES, LAST_SIDE = 64, 384  # while cooling down
PATCH, TUBELET = 16, 2
ENCODER, WIDTH, DEPTH = 1012.2e6, 1408, 40  # ViT-g: parameters, width, blocks
PREDICTOR, PREDICTOR_WIDTH, PREDICTOR_DEPTH = 22.4e6, 384, 12
# ---------------------------------------------------------------------------------------------------------------------
VISIBLE = (0.252, 0.073)  # share of a clip's tokens that each of the two masks leaves, drawn with the public code
GPU_FLOPS, USED = 989e12, 0.35  # an H100's bfloat16 without sparsity, and the share of it that a good run gets
SOURCE_FPS = 30  # of stored video
VIDEO_BITS_PER_S = 500e3  # H.264, short side 256
RAW_AT_FPS = FPS  # raw frames are stored as they are needed
DECODED_PER_CORE_S = 3800 * (224 / SIDE) ** 2  # H.264, a keyframe every 16 frames, TorchCodec with open decoders
LOST_TO_KEYFRAME = 8  # frames decoded before the first that is wanted


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--gpus", type=int, nargs="+", default=[64, 256])
    gpus = parser.parse_args().gpus
    first, last = step_flops(FRAMES, SIDE), step_flops(LAST_FRAMES, LAST_SIDE)
    total = first * STEPS + last * LAST_STEPS
    hours = total / (GPU_FLOPS * USED) / 3600
    print(f"tokens of a clip: {tokens(FRAMES, SIDE):,}; cooling down: {tokens(LAST_FRAMES, LAST_SIDE):,}")
    print(f"arithmetic of a step: {first / 1e18:.2f} EFLOP; cooling down: {last / 1e18:.2f} EFLOP")
    print(f"in all: {total / 1e21:.0f} ZFLOP, {hours:,.0f} GPU-hours ({hours / 8766:.1f} GPU-years)")
    whole = last * (STEPS + LAST_STEPS) / (GPU_FLOPS * USED) / 3600
    print(f"without progressive resolution: {whole:,.0f} GPU-hours, {whole / hours:.1f} times as many")
    print(f"clips seen: {BATCH * (STEPS + LAST_STEPS) / 1e6:,.0f} million\n")
    seconds = HOURS * 3600
    print(f"storage as video: {seconds * VIDEO_BITS_PER_S / 8 / 1e12:,.0f} TB")
    print(f"storage as raw frames, {RAW_AT_FPS} a second: {seconds * RAW_AT_FPS * SIDE**2 * 3 / 1e15:,.1f} PB\n")
    for n in gpus:
        show(n, first, hours)


def show(n: int, flops: float, hours: float) -> None:
    """What must flow while `n` GPUs train, at the first resolution."""
    step_s = flops / (n * GPU_FLOPS * USED)
    clips_per_s = BATCH / step_s
    clip_s = FRAMES / FPS
    cores = clips_per_s * (clip_s * SOURCE_FPS + LOST_TO_KEYFRAME) / DECODED_PER_CORE_S
    sparse = clips_per_s * (FRAMES + LOST_TO_KEYFRAME) / DECODED_PER_CORE_S
    video, raw = clips_per_s * clip_s * VIDEO_BITS_PER_S / 8, clips_per_s * FRAMES * SIDE**2 * 3
    parameters = ENCODER + PREDICTOR
    ring = 2 * 4 * parameters * (n - 1) / n
    shards = 3 * 4 * parameters * (n - 1) / n
    # Weights, gradients and AdamW's two averages of student and predictor, and the teacher: float32.
    state = 4 * (4 * parameters + ENCODER)
    print(f"{n} GPUs: {hours / n / 24:.1f} days, {step_s:.2f} s a step, {clips_per_s:,.0f} clips/s")
    print(f"  decoding: {cores:,.0f} CPU cores at {SOURCE_FPS} frames/s ({cores / n:.1f} a GPU); ", end="")
    print(f"{sparse:,.0f} if stored at {FPS} frames/s")
    print(f"  reading: {video / 1e9:.2f} GB/s of video, or {raw / 1e9:.1f} GB/s of raw frames")
    print(f"  memory of the state on each: {state / 1e9:.1f} GB under DDP, {state / n / 1e9:.2f} GB under FSDP")
    print(f"  network: each sends {ring / 1e9:.1f} GB a step under DDP ({ring / step_s / 1e9:.1f} GB/s), ", end="")
    print(f"{shards / 1e9:.1f} GB under FSDP ({shards / step_s / 1e9:.1f} GB/s)")


def step_flops(frames: int, side: int) -> float:
    """Teacher: all tokens, forward. Student: what each mask leaves, forward and backward. Predictor: all, for each."""
    n = tokens(frames, side)
    clip = forward(n, ENCODER, WIDTH, DEPTH)
    for share in VISIBLE:
        clip += 3 * forward(share * n, ENCODER, WIDTH, DEPTH)
        clip += 3 * forward(n, PREDICTOR, PREDICTOR_WIDTH, PREDICTOR_DEPTH)
    return BATCH * clip


def forward(n: float, parameters: float, width: int, depth: int) -> float:
    """Two for each weight and token, and attention's two products of `n` x `n`."""
    return 2 * parameters * n + 4 * depth * width * n**2


def tokens(frames: int, side: int) -> int:
    return frames // TUBELET * (side // PATCH) ** 2


if __name__ == "__main__":
    main()
