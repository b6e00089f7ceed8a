"""How a scenario is read, checked and sampled; the shipped ones lie here. ``itp.scenario`` is the face."""
