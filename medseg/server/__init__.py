"""The annotation server of ``medseg serve`` and ``medseg annotate`` (extra ``serve``)."""
