"""What clusterers share that refine an encoder: what they are compared with, who judges, who takes back."""
