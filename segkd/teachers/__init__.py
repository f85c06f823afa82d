"""Teachers from anywhere: what opens a file of another library as a network whose logits equal that library's own."""
