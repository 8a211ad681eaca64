"""What runs the networks of a model inside the pipeline: torch, or OpenVINO.

runner.py says what a runner is, on_torch.py and attention.py are torch's. graphs.py converts networks to
OpenVINO and keeps them where folder.py says, on_openvino.py runs them, choice.py measures which is faster.
"""
