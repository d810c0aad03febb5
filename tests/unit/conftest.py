"""Property tests give the same answer wherever they run: the same examples each time, no limit on an example's time."""

from hypothesis import settings

settings.register_profile("preheat", derandomize=True, database=None, deadline=None, max_examples=60)
settings.load_profile("preheat")
