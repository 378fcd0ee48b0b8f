"""Workers: who computes. Two verbs behind one protocol; the serial implementation defines their meaning."""
