"""Tests of the CPU stand-in for the Rec SDK."""
