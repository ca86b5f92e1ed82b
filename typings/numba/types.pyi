from typing import Any

uint8: Any
uint16: Any
int32: Any
uint32: Any
int64: Any
uint64: Any
void: Any
