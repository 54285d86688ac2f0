"""Record what the published AutoAttack code does to a small network, for tests without it.

Run in an environment that has ``pyautoattack`` and this package:
python tests/golden/make_autoattack_oracle.py
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from autoattack_oracle import CASES, fooled
from plain_cnn import trained, unseen

HERE = Path(__file__).parent


def main() -> None:
    """Write the network's weights (npz) and, for each case, which samples were fooled (json)."""
    net = trained(seed=3)
    weights = {name: value.numpy() for name, value in net.state_dict().items()}
    np.savez_compressed(HERE / "autoattack_cnn.npz", **weights)
    x, y, ids = unseen()
    record = {
        "source": f"pyautoattack {version('pyautoattack')} (Croce and Hein), our random numbers",
        "n": len(x),
        "cases": {
            case: {
                "attack": name,
                "params": params,
                "fooled": fooled(net, x, y, ids, name, params).nonzero()[:, 0].tolist(),
            }
            for case, (name, params) in CASES.items()
        },
    }
    text = json.dumps(record, indent=1)
    (HERE / "autoattack_oracle.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
