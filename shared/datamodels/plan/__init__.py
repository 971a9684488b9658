"""What a run will take, in hours and money, before it is paid for."""
