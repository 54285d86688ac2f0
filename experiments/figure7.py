"""Figure 7 of the SpiLiFormer paper: all 19 corruptions and the models' heatmaps, on ImageNet.

python experiments/figure7.py --data-dir DIR          compute maps, then draw
python experiments/figure7.py --render explanations   draw what is stored, without torch

Without trained models it can only demonstrate the layout, and says so:
--plugin experiments/demonstration_models.py --model '*-demonstration.imagenet'
"""

from __future__ import annotations

import sys

from corruption_sheet import draw, words
from explanation import command

if __name__ == "__main__":
    about = "Figure 7: images under 19 corruptions, predictions and heatmaps."
    sys.exit(command(about, "figure7", words(1), draw, "imagenet"))
