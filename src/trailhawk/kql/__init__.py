"""Text to bound plan to SQL tree; knows no engine, cloud or web."""
