"""Part D: detection."""
