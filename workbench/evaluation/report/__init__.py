"""The report of a model: one pass over its pictures, a page that needs nothing else, a file of figures."""
