"""Arrays and sets inside dynamic values."""
