"""What a head is: bone out of a CT, where a scan ends, and the canonical frame."""
