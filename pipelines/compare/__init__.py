"""The same order drawn many times with a few of its settings changed: axes, cells, a labelled sheet."""
