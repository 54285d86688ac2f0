"""Train the small spiking network of ``masked_models`` on digit-scenes and store its weights.

python tests/golden/make_spiking_cnn.py      some minutes on one core
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent.parent))

from masked_models import WEIGHTS, Control

from robustbench_snn import load_dataset

SAMPLES, EPOCHS, BATCH = 10_000, 16, 50


def main() -> None:
    """Adam, cross-entropy, small shifts; the last weights are kept."""
    torch.manual_seed(0)
    WEIGHTS.unlink(missing_ok=True)
    model = Control()
    model.unlock()
    batch = load_dataset("digit-scenes", "train").batch(range(SAMPLES))
    x, y = torch.from_numpy(batch.x), torch.from_numpy(batch.y)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    steps = EPOCHS * SAMPLES // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 6e-3, total_steps=steps)
    for epoch in range(EPOCHS):
        for rows in torch.randperm(SAMPLES).split(BATCH):
            shift = torch.randint(-2, 3, (2,)).tolist()
            loss = nn.functional.cross_entropy(model(x[rows].roll(shift, (2, 3))), y[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        print(epoch, f"{loss.item():.3f}", flush=True)
    model.unlock(False)
    test = load_dataset("digit-scenes").batch(range(500))
    right = (model(torch.from_numpy(test.x)).argmax(1).numpy() == test.y).mean()
    print(f"clean {right:.3f}")
    state = {name: value.numpy() for name, value in model.net.state_dict().items()}
    np.savez_compressed(WEIGHTS, **state)


if __name__ == "__main__":
    main()
