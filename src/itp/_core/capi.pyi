from itp._core.decider import Served

API: object
API_2: object

def api_address(version: int = 2) -> int: ...
def model_address(served: Served) -> int: ...
