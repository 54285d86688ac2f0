"""One file of a model repository on the Hugging Face Hub, fetched once into the Hub's own cache.

The Hub's client starts an interrupted download again from nothing, which is long for checkpoints
of a gigabyte; here it goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

from robustbench_snn.errors import UsageError
from robustbench_snn.resumable import Line, Source, complete

_METADATA_SECONDS = 5.0
_LFS_HASH_LENGTH = 64  # the Hub's tag of a large file is its sha256


def hub_file(repository: str, file: str, revision: str | None = None) -> Path:
    """The local path of ``file`` of ``repository`` (``OWNER/NAME``), from the cache if it is there.

    Of several processes that want it one fetches it, and the others wait.

    Args:
        repository: a model repository.
        file: path inside it.
        revision: branch, tag or commit; None for the main branch.

    Raises:
        UsageError: neither network nor cache has it, or it did not arrive whole.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    cached = try_to_load_from_cache(repository, file, revision=revision)
    if isinstance(cached, str):
        return Path(cached)
    try:
        _fetch_blob(repository, file, revision)
        # The content is in place: the client only enters it into its cache.
        found = hf_hub_download(repository, file, revision=revision, etag_timeout=_METADATA_SECONDS)
    except UsageError:
        raise
    except Exception as error:  # the client passes on whatever its HTTP library raises
        raise UsageError(
            f"'{file}' of the Hub's {repository} could not be fetched ({type(error).__name__}): "
            f"check the network and the name, {_by_hand(repository, file)}."
        ) from error
    return Path(found)


def _by_hand(repository: str, file: str) -> str:
    return f"or download {file} of {repository} elsewhere and give the copy's path with --weights"


def _fetch_blob(repository: str, file: str, revision: str | None) -> None:
    """Put the file's content where the Hub's client keeps it: ``blobs/<tag>`` of the cache."""
    from filelock import FileLock, Timeout
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import OfflineModeIsEnabled
    from huggingface_hub.file_download import repo_folder_name

    if constants.HF_HUB_OFFLINE:
        raise OfflineModeIsEnabled("HF_HUB_OFFLINE is set")
    url = hf_hub_url(repository, file, revision=revision)
    about = get_hf_file_metadata(url, timeout=_METADATA_SECONDS)
    if about.etag is None or about.size is None:
        return
    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type="model")
    blob = folder / "blobs" / about.etag
    blob.parent.mkdir(parents=True, exist_ok=True)
    part = blob.with_name(f"{about.etag}.incomplete")
    lock = FileLock(f"{part}.lock")
    try:
        lock.acquire(timeout=1)
    except Timeout:
        print(f"waiting for another process that fetches {file}", file=sys.stderr)
        lock.acquire()
    try:
        if not blob.exists():
            complete(_source(url, repository, file, about.size), part, Line(file))
            _check(part, file, about)
            part.replace(blob)
    finally:
        lock.release()


def _source(url: str, repository: str, file: str, size: int) -> Source:
    from huggingface_hub import constants
    from huggingface_hub.utils import build_hf_headers

    return Source(
        url=url,
        host=constants.ENDPOINT,
        file=file,
        what=f"{file} of the Hub's {repository}",
        size=size,
        otherwise=_by_hand(repository, file),
        headers=build_hf_headers(),
    )


def _check(part: Path, file: str, about: Any) -> None:
    size, digest = part.stat().st_size, about.etag
    if len(about.etag) == _LFS_HASH_LENGTH:
        with part.open("rb") as stored:
            digest = hashlib.file_digest(stored, "sha256").hexdigest()
    if size != about.size or digest != about.etag:
        part.unlink()
        raise UsageError(
            f"{file} arrived damaged (other size or sha256 than the Hub states) and was deleted: "
            "run the same command again."
        )
