"""Will it fit? A call is run on tensors without bytes, in a copy of this process, before it is run for real."""
