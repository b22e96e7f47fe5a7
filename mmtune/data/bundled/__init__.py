"""The sample that mmtune brings: written digits and their spoken names, made on this machine."""
