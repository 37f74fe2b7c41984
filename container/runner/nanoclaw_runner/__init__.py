"""The program that lives in a worker container: it joins the host's link, the relay and the agent's engine.

It never imports `nanoclaw_core`; the two agree on `container/PROTOCOL.md` and nothing else.
"""

__version__ = "0.1.0"
