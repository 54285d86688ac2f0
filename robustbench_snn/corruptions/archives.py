"""Where the official corrupted sets are published: Zenodo records, sizes and checksums.

Sizes in bytes and md5 as the records list them. Records: 2535967 (CIFAR-10-C), 3555552
(CIFAR-100-C), 2235448 (ImageNet-C).
"""

from __future__ import annotations

from dataclasses import dataclass

from robustbench_snn.errors import UsageError
from robustbench_snn.registry import did_you_mean

HOST = "https://zenodo.org"


@dataclass(frozen=True)
class Archive:
    """One tar file of a Zenodo record.

    Attributes:
        record: number of the record.
        file: name of the file.
        size: in bytes.
        md5: checksum, 32 hexadecimal digits.
        folder: where its members belong under the download folder; empty when the archive brings
            its own folder.
    """

    record: int
    file: str
    size: int
    md5: str
    folder: str = ""

    def url(self, host: str = HOST) -> str:
        """Address of the file on ``host``."""
        return f"{host.rstrip('/')}/records/{self.record}/files/{self.file}?download=1"


def _imagenet(group: str, size: int, md5: str) -> Archive:
    return Archive(2235448, f"{group}.tar", size, md5, folder="ImageNet-C")


ARCHIVES: dict[str, Archive] = {
    "cifar10-c": Archive(
        2535967, "CIFAR-10-C.tar", 2_918_471_680, "56bf5dcef84df0e2308c6dcbcbbd8499"
    ),
    "cifar100-c": Archive(
        3555552, "CIFAR-100-C.tar", 2_918_473_216, "11f0ed0f1191edbf9fa23466ae6021d3"
    ),
    "imagenet-c:noise": _imagenet("noise", 22_565_673_785, "e80562d7f6c3f8834afb1ecf27252745"),
    "imagenet-c:blur": _imagenet("blur", 7_112_704_951, "2d8e81fdd8e07fef67b9334fa635e45c"),
    "imagenet-c:weather": _imagenet("weather", 12_797_438_995, "33ffea4db4d93fe4a428c40a6ce0c25d"),
    "imagenet-c:digital": _imagenet("digital", 7_757_510_705, "89157860d7b10d5797849337ca2e5c03"),
    "imagenet-c:extra": _imagenet("extra", 15_789_490_144, "d492dfba5fc162d8ec2c3cd8ee672984"),
}


def find_archives(name: str) -> list[Archive]:
    """The archives of ``cifar10-c``, ``cifar100-c``, ``imagenet-c`` or ``imagenet-c:<group>``.

    Raises:
        UsageError: no such set, with the closest names.
    """
    if name == "imagenet-c":
        return [archive for key, archive in ARCHIVES.items() if key.startswith("imagenet-c:")]
    if name not in ARCHIVES:
        hint = did_you_mean(name, [*ARCHIVES, "imagenet-c"])
        raise UsageError(f"unknown corrupted set '{name}': {hint}")
    return [ARCHIVES[name]]
