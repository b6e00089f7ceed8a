"""What all tests share."""

from hypothesis import settings

# A slow example says how busy the machine is, not that something is wrong.
settings.register_profile("itp", deadline=None)
settings.load_profile("itp")
