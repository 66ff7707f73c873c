"""One file a page: what the page of the same name draws, apart from its script."""
