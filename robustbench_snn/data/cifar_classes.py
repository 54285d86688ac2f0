"""Cards of CIFAR-10 and CIFAR-100 (Krizhevsky 2009): names and numbers only."""

from __future__ import annotations

from robustbench_snn.data.cards import DatasetCard

_CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"

_CIFAR100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup
dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower
leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid
otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray
road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
wardrobe whale willow_tree wolf woman worm
"""

CIFAR10 = DatasetCard(
    name="cifar10",
    num_classes=10,
    class_names=tuple(_CIFAR10.split()),
    splits=("train", "test"),
    image_shape=(3, 32, 32),
    loader="robustbench_snn.data.cifar:load",
    hub_id="uoft-cs/cifar10",
    description="32x32 photographs of 10 classes; Hub, parquet files or python archives",
)

CIFAR100 = DatasetCard(
    name="cifar100",
    num_classes=100,
    class_names=tuple(_CIFAR100.split()),
    splits=("train", "test"),
    image_shape=(3, 32, 32),
    loader="robustbench_snn.data.cifar:load",
    hub_id="uoft-cs/cifar100",
    description="32x32 photographs of 100 classes; Hub, parquet files or python archives",
)
