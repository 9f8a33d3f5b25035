"""Does a speaker consistency loss make a voice more alike? The ablation of docs/ablation.md."""
