"""The explorer: an atlas in the browser, live, or written as a site that needs no server."""
