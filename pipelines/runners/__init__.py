"""What runs the networks of a model inside the pipeline: torch, or OpenVINO.

runner.py says what a runner is, attention.py and on_torch.py are the one on torch, graphs.py converts networks to
OpenVINO and keeps them, on_openvino.py runs them, choice.py measures which is faster.
"""
