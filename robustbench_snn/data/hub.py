"""Fetch the parquet files of one split from the Hugging Face Hub, once, into its own cache.

Only the files of the split are fetched: loading ImageNet-1K by name would fetch 150 GB of training
images to evaluate on 6 GB.
"""

from __future__ import annotations

import http.client
import threading
import urllib.error
import urllib.request
from pathlib import Path

from robustbench_snn.data.cards import DatasetCard
from robustbench_snn.data.parquet_rows import require_all_shards
from robustbench_snn.errors import UsageError

# On the Hub the labelled evaluation images of ImageNet-1K are called validation.
HUB_SPLITS = {"imagenet": {"test": "validation"}}
_PROBE_SECONDS = 5.0
_METADATA_SECONDS = 10.0


def hub_files(card: DatasetCard, split: str, layout: str) -> list[Path]:
    """Local paths of the split's parquet files, from the cache when the Hub cannot be reached.

    Args:
        card: a card with a ``hub_id``.
        split: one of its splits.
        layout: what a local folder would hold, for the message.

    Raises:
        UsageError: neither network nor cache has it, or its terms have not been accepted.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError

    prefix = HUB_SPLITS.get(card.name, {}).get(split, split)
    online = not constants.HF_HUB_OFFLINE and _answers(constants.ENDPOINT)
    try:
        folder = snapshot_download(
            str(card.hub_id),
            repo_type="dataset",
            allow_patterns=[f"{prefix}-*.parquet", f"*/{prefix}-*.parquet"],
            local_files_only=not online,
            etag_timeout=_METADATA_SECONDS,
        )
    except GatedRepoError as error:
        raise UsageError(
            f"the Hub's {card.hub_id} is open only to users who accepted its terms: accept them at "
            f"{constants.ENDPOINT}/datasets/{card.hub_id} and run `hf auth login`, or give a "
            f"folder with --data-dir that holds {layout}."
        ) from error
    except LocalEntryNotFoundError as error:
        raise _unavailable(card, split, layout, online) from error
    except Exception as error:  # the client passes on whatever its HTTP library raises
        raise UsageError(
            f"fetching {card.name} ({split}) from the Hub's {card.hub_id} failed "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__}): run again, "
            f"or give a folder with --data-dir that holds {layout}."
        ) from error
    files = sorted(Path(folder).glob(f"**/{prefix}-*.parquet"))
    if not files:
        raise _unavailable(card, split, layout, online)
    require_all_shards(files)
    return files


def _unavailable(card: DatasetCard, split: str, layout: str, online: bool) -> UsageError:
    why = "did not provide it" if online else "could not be reached and its cache does not hold it"
    return UsageError(
        f"{card.name} ({split}) was looked for on the Hugging Face Hub as {card.hub_id}, which "
        f"{why}: connect to the network and run again, or give a folder with --data-dir that "
        f"holds {layout}."
    )


def _answers(endpoint: str) -> bool:
    """Whether the Hub answers at all; the client itself would retry for half a minute.

    Name resolution ignores socket timeouts, hence the thread that may be left behind.
    """
    answered = threading.Event()

    def ask() -> None:
        request = urllib.request.Request(endpoint, method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=_PROBE_SECONDS):
                answered.set()
        except urllib.error.HTTPError:
            answered.set()
        except (OSError, ValueError, http.client.HTTPException):
            return

    worker = threading.Thread(target=ask, daemon=True)
    worker.start()
    worker.join(_PROBE_SECONDS + 1.0)
    return answered.is_set()
