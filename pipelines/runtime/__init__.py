"""The process: its console, memory, ports, signals and versions."""
