"""Part G of the lectures: what trained networks have learnt to see."""
