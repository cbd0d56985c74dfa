"""Part H of the lectures: pictures made by networks."""
