AGEING_S: float
