"""Benchmarks: figures, never verdicts. ``make bench`` runs them; ``docs/performance.md`` quotes them."""
