"""The set-up: run by hand or by CI, imported by nobody."""
