"""Write a folder of MNIST images in mixed modes, formats and sizes, with broken files among them.

    python benchmarks/mixed_folder.py --data-root ROOT OUT [--count 2000]

ROOT holds MNIST as torchvision keeps it. OUT gets a folder for each class and ten files that no
decoder can read, for trying `deepclust run --data OUT` on what people have.
"""

import argparse
import io
from pathlib import Path

import numpy as np
from PIL import Image
from torchvision.datasets import MNIST


def grey(image: Image.Image) -> Image.Image:
    return image


def rgba(image: Image.Image) -> Image.Image:
    made = Image.new("RGBA", image.size, (255, 255, 255, 0))
    made.paste((0, 0, 0, 255), mask=image)  # black strokes on nothing
    return made


def deep(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(image).astype(np.uint16) * 257)


MODES = {  # how an image is changed, and the file's ending
    "grey": (grey, ".png"),
    "rgb": (lambda i: i.convert("RGB"), ".jpg"),
    "rgba": (rgba, ".png"),
    "palette": (lambda i: i.convert("P"), ".gif"),
    "cmyk": (lambda i: i.convert("RGB").convert("CMYK"), ".jpg"),
    "deep": (deep, ".png"),
    "one bit": (lambda i: i.convert("1"), ".bmp"),
    "turned": (lambda i: i.rotate(90), ".jpg"),  # the EXIF orientation turns it back
}
TURNED = 6  # EXIF: turn by 90 degrees clockwise to see it upright


def write(folder: Path, pixels: np.ndarray, name: str, mode: str, side: int) -> None:
    change, ending = MODES[mode]
    image = Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR)
    exif = Image.Exif()
    if mode == "turned":
        exif[0x0112] = TURNED
    options = {"exif": exif} if ending == ".jpg" else {}
    change(image).save(folder / f"{name}{ending}", **options)


def write_broken(folder: Path, pixels: np.ndarray) -> None:
    whole = io.BytesIO()
    Image.fromarray(pixels).resize((64, 64)).save(whole, "PNG")
    png = whole.getvalue()
    jpeg = io.BytesIO()
    Image.fromarray(pixels).resize((64, 64)).save(jpeg, "JPEG")
    (folder / "empty.png").write_bytes(b"")
    (folder / "cut half.png").write_bytes(png[: len(png) // 2])
    (folder / "cut header.png").write_bytes(png[:20])
    (folder / "cut half.jpg").write_bytes(jpeg.getvalue()[: len(jpeg.getvalue()) // 2])
    (folder / "text.png").write_text("not an image at all\n")
    (folder / "page.jpg").write_text("<html><script>alert('404')</script></html>")
    (folder / "zeros.gif").write_bytes(bytes(1000))
    (folder / "flipped.png").write_bytes(png[:40] + bytes(b ^ 255 for b in png[40:200]) + png[200:])
    (folder / "cut.bmp").write_bytes(b"BM\x00\x00\x10\x00")
    (folder / "cut.tif").write_bytes(b"II*\x00\x08\x00\x00\x00")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--count", type=int, default=2000)
    given = parser.parse_args()
    data = MNIST(str(given.data_root), train=True)
    random = np.random.default_rng(0)
    for i in random.permutation(len(data.data))[: given.count].tolist():
        folder = given.out / str(int(data.targets[i]))
        folder.mkdir(parents=True, exist_ok=True)
        mode = list(MODES)[random.integers(len(MODES))]
        write(folder, data.data[i].numpy(), f"{i:05d} {mode}", mode, int(random.integers(20, 200)))
    broken = given.out / "broken & <b>odd"
    broken.mkdir()
    write_broken(broken, data.data[0].numpy())


if __name__ == "__main__":
    main()
