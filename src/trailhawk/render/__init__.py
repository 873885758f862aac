"""How results look: tables, records, JSON, CSV, charts and the page of an incident; hostile text made visible."""
