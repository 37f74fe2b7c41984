"""The plugins' distributions in the host's own environment: installed, locked, put back."""
