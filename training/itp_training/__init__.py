"""Training of the models that ``itp`` serves: simulator, replay, Double DQN, look-ahead, ONNX.

``itp`` never imports this package, it starts it as a process; PyTorch and its company come with the
extra ``itp[train]``.
"""
