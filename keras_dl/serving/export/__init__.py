"""What a SavedModel holds, found and tried: how it is written, what it says of itself, and what could surprise."""
