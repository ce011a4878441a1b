"""What a training run needs beside model, LoRA and data: checkpoints, several processes, the estimate, the metrics log."""
