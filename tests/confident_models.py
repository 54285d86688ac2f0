"""A plugin for tests: a shipped model with logits 300 times as far apart, the same predictions."""

from dataclasses import replace

from robustbench_snn.adapter import load_model

shipped = load_model("sdt-tiny.digit-scenes")


class Confident(type(shipped)):
    """Cross-entropy has no gradient here; margins do."""

    card = replace(shipped.card, name="confident.test", reported=None)

    def readout(self, output):
        return 300 * super().readout(output)
