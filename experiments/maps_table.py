"""Where the maps of the three shipped models lie, on the 1,000 test scenes, and what they rest on.

Writes maps*.md and .csv: attention maps and attributions against object
masks (all scenes; the costly attributions on the first 200); the metrics that run the model again
(first 100 scenes); the gates of the second stage; SpiLiFormer's first pass, to be set beside its
second.

python experiments/maps_table.py [--results DIR] [PART ...]    results on disk are not redone
python experiments/maps_table.py --publish                     replace those in experiments/results
"""

from __future__ import annotations

import argparse
import sys

from evaluation import add_places, place_of, tables_beside

from robustbench_snn.errors import UsageError
from robustbench_snn.explain.command import main as explain
from robustbench_snn.explain.options import DEFAULT_RESULTS

NAMES = ("sdt", "qkformer", "spiliformer")
TINY = {name: ["--model", f"{name}-tiny.digit-scenes"] for name in NAMES}
ALL = [word for words in TINY.values() for word in words]
RERUN = "faithfulness,fidelity,randomisation,grid_pointing,stability"
GRADIENTS = "saliency,input_x_gradient,grad_cam"
MANY_PASSES = "integrated_gradients,noise_tunnel,occlusion"
READ = "rate,received,contribution,class"
PARTS = {
    "maps": [*ALL, "--map", "attention", "--metrics"],
    "maps_attributions": [*ALL, "--map", GRADIENTS, "--metrics"],
    "maps_many_passes": [*ALL, "--map", MANY_PASSES, "--metrics", "--n", "200"],
    "maps_rerun": [*ALL, "--map", f"{READ},grad_cam,saliency", "--metrics", RERUN],
    "maps_stage2": [*TINY["qkformer"], *TINY["spiliformer"], "--block", "stage2", "--map",
                    "rate,gate,signed", "--metrics"],
    "maps_first_pass": [*TINY["spiliformer"], "--pass", "1", "--map", READ, "--metrics"],
}  # fmt: skip

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Tables of map metrics.")
    parser.add_argument("--results", default=DEFAULT_RESULTS, help="folder of stored maps")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (all)")
    add_places(parser)
    options = parser.parse_args()
    try:
        folder = tables_beside(place_of(options, options.results))
    except UsageError as error:
        parser.error(str(error))
    common = ["--dataset", "digit-scenes", "--results", options.results]
    codes = [
        explain([*common, *PARTS[part], "--table", str(folder / part)])
        for part in options.parts or PARTS
    ]
    sys.exit(max(codes))
