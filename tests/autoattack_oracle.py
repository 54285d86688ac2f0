"""The published AutoAttack code (package ``pyautoattack`` of its authors), fed our random numbers.

It is a test-only oracle: nothing in the package needs it. APGD starts where ours starts; Square
runs on one image at a time and draws its squares from that image's generator.
"""

from __future__ import annotations

import warnings

import torch

from robustbench_snn.attacks.ball import Ball
from robustbench_snn.attacks.base import sample_generator
from robustbench_snn.attacks.square_windows import Draws

CASES = {
    "apgd linf ce": ("apgd", {"norm": "linf", "eps": 0.1, "loss": "ce"}),
    "apgd linf dlr": ("apgd", {"norm": "linf", "eps": 0.1, "loss": "dlr"}),
    "apgd linf dlr-targeted": ("apgd", {"norm": "linf", "eps": 0.08, "loss": "dlr-targeted"}),
    "apgd linf ce, 2 starts": ("apgd", {"norm": "linf", "eps": 0.08, "loss": "ce", "restarts": 2}),
    "apgd l2 ce": ("apgd", {"norm": "l2", "eps": 1.0, "loss": "ce"}),
    "apgd l2 dlr": ("apgd", {"norm": "l2", "eps": 1.5, "loss": "dlr"}),
    "square linf": ("square", {"norm": "linf", "eps": 0.2, "queries": 150}),
    "square l2": ("square", {"norm": "l2", "eps": 2.0, "queries": 150}),
}
_NORMS = {"linf": "Linf", "l2": "L2"}


def fooled(net, x, y, ids, name, params):
    """Which samples the published code fools, bool [B]; clean mistakes count."""
    wrong = net(x).argmax(1) != y
    rows = (~wrong).nonzero()[:, 0]
    run = _apgd if name == "apgd" else _square
    found = x.clone()
    found[rows] = run(net, x[rows], y[rows], [ids[row] for row in rows.tolist()], params)
    ball = Ball(params["norm"], params["eps"], 0.0, 1.0)
    assert float(ball.size(found.detach() - x).max()) <= params["eps"] + 1e-5
    return net(found.detach()).argmax(1) != y


def _apgd(net, x, y, ids, params):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
    targeted = params["loss"] == "dlr-targeted"
    kind = APGDAttack_targeted if targeted else APGDAttack
    attack = kind(net, norm=_NORMS[params["norm"]], eps=params["eps"], n_iter=100)
    attack.loss = params["loss"]
    attack.init_hyperparam(x)
    ball = Ball(params["norm"], params["eps"], 0.0, 1.0)
    order = net(x).sort(dim=1)[1]
    found, standing = x.clone(), torch.arange(len(x))
    for run in range(9 if targeted else params.get("restarts", 1)):
        rows, names = standing, [ids[row] for row in standing.tolist()]
        start = ball.surface_start(x[rows], 0, names, run)
        if targeted:
            attack.y_target = order[rows, -2 - run]
        result = attack.attack_single_run(x[rows], y[rows], x_init=start)[3]
        broken = net(result).argmax(1) != y[rows]
        found[rows[broken]] = result[broken]
        standing = rows[~broken]
    return found


def _square(net, x, y, ids, params):
    from pyautoattack.square import SquareAttack

    class Fed(SquareAttack):
        draws = None

        def random_choice(self, shape):
            channels, rows, columns = shape[-3:]
            return self.draws.signs(channels, rows, columns).reshape(shape)

        def random_int(self, low=0, high=1, shape=(1,)):
            drawn = torch.tensor(self.draws.take(1)[0, 0])
            return (low + (high - low) * drawn).long().reshape(tuple(shape))

        def eta(self, s):
            # Our coin, where the published code would draw one of its own.
            real = torch.rand
            torch.rand = lambda *a, **k: torch.tensor(self.draws.take(1)[0])
            try:
                return super().eta(s)
            finally:
                torch.rand = real

    norm, eps, queries = _NORMS[params["norm"]], params["eps"], params["queries"]
    # AutoAttack's own settings: p 0.8, schedule as it is for 10,000 queries.
    attack = Fed(net, norm=norm, eps=eps, n_queries=queries, p_init=0.8, resc_schedule=False)
    attack.init_hyperparam(x)
    found = x.clone()
    for row, name in enumerate(ids):
        attack.draws = Draws([sample_generator(0, name, 0)], x.shape[1], x.device)
        found[row] = attack.attack_single_run(x[row : row + 1], y[row : row + 1])[1][0]
    return found
