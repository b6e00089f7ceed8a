"""The compiled core: one concept a module, importing nothing else of itp."""
