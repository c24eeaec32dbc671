"""The images of a dataset by id, and the store of their labels."""

from medseg.server.datastore.store import Datastore
from medseg.server.datastore.versions import FINAL, ORIGINAL, Author, LabelVersion

__all__ = ["FINAL", "ORIGINAL", "Author", "Datastore", "LabelVersion"]
