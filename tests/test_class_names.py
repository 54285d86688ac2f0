"""Class names in the order of the labels, as the data sets' own files give them."""

from robustbench_snn.data.cifar_classes import CIFAR10, CIFAR100

# batches.meta of the published python archive.
OFFICIAL_10 = {
    0: "airplane",
    1: "automobile",
    2: "bird",
    3: "cat",
    4: "deer",
    5: "dog",
    6: "frog",
    7: "horse",
    8: "ship",
    9: "truck",
}
# Some of the fine labels of CIFAR-100, whose order is alphabetical.
OFFICIAL_100 = {0: "apple", 8: "bicycle", 19: "cattle", 47: "maple_tree", 52: "oak_tree"}
OFFICIAL_100 |= {67: "ray", 81: "streetcar", 95: "whale", 98: "woman", 99: "worm"}


def test_cifar10_in_the_order_of_its_labels():
    assert dict(enumerate(CIFAR10.class_names)) == OFFICIAL_10


def test_cifar100_in_the_order_of_its_labels():
    names = CIFAR100.class_names
    assert len(set(names)) == 100
    assert list(names) == sorted(names)
    assert {label: names[label] for label in OFFICIAL_100} == OFFICIAL_100
