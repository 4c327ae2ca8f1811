def training_rows(*a): return []
