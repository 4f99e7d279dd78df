"""Builds medkeras; everything it declares is in setup.cfg."""

from setuptools import setup

setup()
