"""Figure 6 of the SpiLiFormer paper: all 19 corruptions and the models' heatmaps, on digit-scenes.

python experiments/figure6.py               compute maps, then draw
python experiments/figure6.py --render explanations   draw what is stored, without torch
"""

from __future__ import annotations

import sys

from corruption_sheet import draw, words
from explanation import command

if __name__ == "__main__":
    about = "Figure 6: images under 19 corruptions, predictions and heatmaps."
    sys.exit(command(about, "figure6", words(16), draw))
