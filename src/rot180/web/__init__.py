"""The explorer: an atlas in the browser, from a server or as an exported static site."""
