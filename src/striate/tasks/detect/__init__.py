"""Detection: what is where. Boxes, detectors, their losses and decoders, and how detections are judged."""
