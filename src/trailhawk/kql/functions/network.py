"""IPv4 and IPv6 addresses."""
