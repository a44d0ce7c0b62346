"""The `hospital-agent` command: what the hospital's own people see and decide."""

from hospital_agent.cli.main import main as main
