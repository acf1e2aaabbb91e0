"""The rules of the paper's experiments, one function a rule, each naming its section; they know no method.

Beside the paper's rules stand the honest variants: the whole official test split of images, KDDCUP99 without duplicate
rows, with a threshold from training rows, and with the attacks as the anomaly, video without per-video scaling.
"""
