"""Data sets by name, and arrays from files."""

from collections.abc import Iterator

from ...core import Component, hookimpl

_HERE = "deepclust.plugins.datasets"


@hookimpl
def deepclust_datasets() -> Iterator[Component]:
    yield Component("digits", f"{_HERE}.digits:Digits", "1,797 digits of 8x8, bundled (default)")
    yield Component(
        "array",
        f"{_HERE}.array:Array",
        "a .npy or .npz file: give its path as --data",
        reads=(".npy", ".npz"),
    )
    yield Component("mnist", f"{_HERE}.vision:MNIST", "70,000 handwritten digits of 28x28")
    yield Component("fashion-mnist", f"{_HERE}.vision:FashionMNIST", "70,000 clothes of 28x28")
    yield Component("usps", f"{_HERE}.vision:USPS", "9,298 handwritten digits of 16x16")
    yield Component("cifar10", f"{_HERE}.vision:CIFAR10", "60,000 photographs of 32x32, 10 classes")
    yield Component("cifar100", f"{_HERE}.vision:CIFAR100", "60,000 photographs of 32x32, 100 classes")
    yield Component("stl10", f"{_HERE}.vision:STL10", "13,000 photographs of 96x96, 10 classes")
