"""What on a picture speaks for an answer."""
