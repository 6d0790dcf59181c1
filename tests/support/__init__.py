"""What the tests stand on: servers, data, and a handle on a running Forebay."""
