"""The upscaler's speed and memory at full size, beside PyTorch with diffusers, in the same run.

    python benchmarks/super_resolution/diffusion_speed.py
    # where torch and diffusers are:
    python benchmarks/super_resolution/diffusion_speed.py --torch-python other-environment/bin/python

Random weights in the official configuration, float32, one image of `--size` pixels, enlarged 4x. Two parts, each in a
process of its own for its peak memory: the steps of the sampling (denoiser and schedule, per step), and the decoding.
The rounds of both libraries take turns, the median counts; what is compiled is compiled before. The target: at most 1.0
times the seconds of PyTorch, and less peak memory.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # As the command line does.

import numpy as np

PARTS = ("step", "decode")
LIBRARIES = ("medkeras", "diffusers")
UNET = {
    "sample_size": 64,
    "in_channels": 6,
    "out_channels": 3,
    "block_out_channels": (160, 320, 320, 640),
    "layers_per_block": 2,
    "down_block_types": ("DownBlock2D",) * 3 + ("AttnDownBlock2D",),
    "up_block_types": ("AttnUpBlock2D",) + ("UpBlock2D",) * 3,
    "attention_head_dim": 32,
    "norm_num_groups": 32,
}
VQ = {
    "block_out_channels": (128, 256, 512),
    "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "num_vq_embeddings": 8192,
    "norm_num_groups": 32,
    "sample_size": 256,
}
SCHEDULE = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.0015,
    "beta_end": 0.0155,
    "clip_sample": False,
    "set_alpha_to_one": True,
    "steps_offset": 1,
}


def of_medkeras(part: str, size: int, steps: int, threads: int) -> Callable[[], object]:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    from medkeras.super_resolution import DDIM, VQVAE, UNet
    from medkeras.super_resolution.diffusion.sampler import Sampler
    from pipelines.runtime.memory import keep_freed_memory

    keep_freed_memory()
    images = np.zeros((1, size, size, 3), "float32")
    if part == "decode":
        decoder = VQVAE().decoder
        return lambda: decoder.predict_on_batch(images)
    sampler, noise = Sampler(UNet(), DDIM()), np.ones((1, 1, size, size, 3), "float32")
    return lambda: sampler.sample(images, noise, steps=steps)


def of_diffusers(part: str, size: int, steps: int, threads: int) -> Callable[[], object]:
    import torch
    from diffusers import DDIMScheduler, UNet2DModel, VQModel

    torch.set_num_threads(threads)
    images = torch.zeros(1, 3, size, size)
    if part == "decode":
        autoencoder = VQModel(**VQ).eval()
        return torch.inference_mode()(lambda: autoencoder.decode(images).sample.numpy())
    unet, schedule = UNet2DModel(**UNET).eval(), DDIMScheduler(**SCHEDULE)

    @torch.inference_mode()
    def sample() -> object:
        latent = torch.ones(1, 3, size, size)
        schedule.set_timesteps(steps)
        for step in schedule.timesteps:
            latent = schedule.step(unet(torch.cat([latent, images], dim=1), step).sample, step, latent).prev_sample
        return latent.numpy()

    return sample


def serve(library: str, part: str, size: int, steps: int, threads: int) -> None:
    """Answers each line of the input with the seconds of a run, and the end of it with the peak memory."""
    run = {"medkeras": of_medkeras, "diffusers": of_diffusers}[library](part, size, steps, threads)
    run()
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        run()
        seconds = (time.perf_counter() - start) / (steps if part == "step" else 1)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": seconds, "peak": peak}), flush=True)


class Worker:
    """A process that has one part of one library in memory."""

    def __init__(self, library: str, part: str, arguments: argparse.Namespace) -> None:
        python = arguments.torch_python if library == "diffusers" else sys.executable
        words = [library, part, arguments.size, arguments.steps, arguments.threads]
        self.process = subprocess.Popen(
            [python, __file__, "--serve", *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if arguments.verbose else subprocess.DEVNULL,
            text=True,
        )
        if self.process.stdout.readline().strip() != "ready":
            raise SystemExit(f"{library} does not run here (--verbose says why): {python}")

    def measure(self) -> dict[str, float]:
        """Returns the seconds of a run, and the peak memory so far in MiB."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def stop(self) -> None:
        """Ends the process."""
        self.process.stdin.close()
        self.process.wait()


def compare(part: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the row of one part."""
    workers = {library: Worker(library, part, arguments) for library in LIBRARIES}
    found: dict[str, list[dict[str, float]]] = {library: [] for library in LIBRARIES}
    for i in range(arguments.rounds):
        for library in LIBRARIES if i % 2 else LIBRARIES[::-1]:
            found[library].append(workers[library].measure())
    for worker in workers.values():
        worker.stop()
    row: dict[str, Any] = {"part": part}
    for name in ("seconds", "peak"):
        first, second = ([run[name] for run in found[library]] for library in LIBRARIES)
        ratios = np.divide(first, second)
        row |= {f"{name}, medkeras": np.median(first), f"{name}, diffusers": np.median(second)}
        row |= {f"{name}, ratio": f"{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})"}
    return row


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        library, part, *numbers = sys.argv[2:]
        serve(library, part, *map(int, numbers))
        return
    import pandas as pd

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-python", default=sys.executable, help="a Python with torch and diffusers")
    parser.add_argument("--size", type=int, default=64, help="pixels per side of the small image")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--verbose", action="store_true", help="show what the processes say")
    arguments = parser.parse_args()
    table = pd.DataFrame([compare(part, arguments) for part in arguments.parts])
    print(
        f"{arguments.size} x {arguments.size} pixels to {4 * arguments.size}, {arguments.threads} threads; peak in MiB"
    )
    print(table.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
