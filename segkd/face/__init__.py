"""What ``import segkd`` offers: functions, and what they give back."""
