"""What follows from an incident outside of Trailhawk: who is told."""
