"""Small changes of a picture that change the answer."""
