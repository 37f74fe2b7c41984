"""What the house takes, measured beside the floor that nothing on this machine can get below: `make bench`.

Every figure is taken in one run on one machine; compare ratios, not seconds, between runs.
"""
