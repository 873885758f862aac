"""How results look: tables, JSON, CSV, charts, the page of an incident; hostile text is made visible."""
