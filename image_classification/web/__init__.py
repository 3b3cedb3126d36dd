"""HTTP alone: the body of a request within limits of memory, and the documents of the API."""
