"""SimCLR's views of 32 x 32 RGB bytes: images a second, ours by batches beside torchvision's by samples.

The same operations with the same numbers: crop 0.2..1, flip, jitter 0.4, 0.4, 0.4, 0.1 at p = 0.8, grey at
p = 0.2, blur of three pixels at p = 0.5, floats out. Ours runs in the process that would train; torchvision's
transforms.v2 in a DataLoader of worker processes, on tensors and on PIL's images, started and warm; where
lightly is installed, its SimCLRTransform in such a loader too, which makes both views of an image: of half
as many images, so that all make as many views. Turn by turn in one run, medians.

    python benchmarks/augmentation_speed.py --results benchmarks/results/augmentation-cpu.json
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import torch
import torchvision
from PIL import Image
from quality import machine, save
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from deepclust.core.run.device import choose_device, describe
from deepclust.plugins.views import simclr_view


class Samples(Dataset[Tensor]):
    """One view of each image."""

    def __init__(self, images: Tensor, pil: bool) -> None:
        self.images = [Image.fromarray(i.permute(1, 2, 0).numpy()) for i in images] if pil else images
        self.view = v2.Compose(
            [
                v2.RandomResizedCrop(32, scale=(0.2, 1.0)),
                v2.RandomHorizontalFlip(),
                v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8),
                v2.RandomGrayscale(0.2),
                v2.RandomApply([v2.GaussianBlur(3, (0.1, 2.0))], 0.5),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> Tensor:
        return self.view(self.images[i])


class Pairs(Dataset[list[Tensor]]):
    """Two views of each image by lightly's transform, with the same numbers."""

    def __init__(self, images: Tensor) -> None:
        from lightly.transforms.simclr_transform import SimCLRTransform

        self.images = [Image.fromarray(i.permute(1, 2, 0).numpy()) for i in images]
        self.views = SimCLRTransform(
            input_size=32,
            cj_strength=0.5,
            min_scale=0.2,
            gaussian_blur=0.5,
            sigmas=(0.1, 2.0),
            normalize=None,
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> list[Tensor]:
        return self.views(self.images[i])


def seconds(views: Iterable[Tensor], device: torch.device) -> float:
    start = time.perf_counter()
    for made in views:
        for batch in made if isinstance(made, list) else [made]:
            assert batch.dtype == torch.float32
            batch.to(device)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--images", type=int, default=5_120)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--results", type=Path)
    args = parser.parse_args()
    device, before = choose_device(args.device), machine()
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(args.images, 3, 8, 8, generator=generator)
    images = (torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bilinear") * 255).byte()
    there, view = images.to(device), simclr_view()
    loaders = {
        name: DataLoader(Samples(images, pil), args.batch, num_workers=args.workers, persistent_workers=True)
        for name, pil in (("torchvision, tensors", False), ("torchvision, PIL", True))
    }
    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__}
    if importlib.util.find_spec("lightly"):
        loaders["lightly"] = DataLoader(
            Pairs(images[::2]), args.batch // 2, num_workers=args.workers, persistent_workers=True
        )
        versions["lightly"] = importlib.metadata.version("lightly")
    taken: dict[str, list[float]] = {"ours": [], **{name: [] for name in loaders}}
    for repeat in range(args.repeats + 1):  # the first starts the workers and is not counted
        for name in taken:
            views = loaders[name] if name in loaders else (view(part) for part in there.split(args.batch))
            spent = seconds(views, device)
            if repeat:
                taken[name].append(spent)
    rates = {name: round(args.images / statistics.median(spent)) for name, spent in taken.items()}
    result = {
        "command": "python benchmarks/augmentation_speed.py " + " ".join(sys.argv[1:]),
        "machine": {**before, "device": describe(device), "threads": torch.get_num_threads()},
        "versions": versions,
        "images a second": rates,
        "times faster": {name: round(rates["ours"] / rates[name], 2) for name in loaders},
        "seconds": {name: [round(s, 3) for s in spent] for name, spent in taken.items()},
    }
    print(json.dumps(result, indent=2))
    save(result, args.results)


if __name__ == "__main__":
    main()
