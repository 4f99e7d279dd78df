"""DualAttendMed: channel attention and bilinear attention pooling."""
