"""Training of networks that answer prompts: simulated users beside the training loop and in the validation."""
