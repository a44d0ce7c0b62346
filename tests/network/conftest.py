"""The commands as people type them are in tests/agent."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "agent"))
