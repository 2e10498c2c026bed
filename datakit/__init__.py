"""What the scripts ``data/*/prepare.py`` share: getting, unpacking, preparing and checking data. Imports no engine."""
