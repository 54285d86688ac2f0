"""Signs that an accuracy under attack says more about the attack than about the model.

``rules`` holds D1 to D21 on plain arrays, ``attacks`` and ``measurements`` gather what they read.
"""
